"""What Kubernetes says of the service's Deployments and pods. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cycleops.api.reasons import Reason
from cycleops.controller.store import Facts

Body = Mapping[str, Any]
_PULL_ERRORS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CONFIGURATION_ERRORS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True, slots=True)
class Rollout:
    """One Deployment."""

    wanted: int = 0
    ready: int = 0
    available: int = 0
    updated: int = 0
    there: int = 0
    seen: bool = False  # the Deployment controller has looked at the newest spec
    stalled: str = ""  # why it gives no progress, in Kubernetes' words

    @property
    def complete(self) -> bool:
        return self.seen and self.updated == self.there == self.available == self.wanted

    @property
    def only_scales(self) -> bool:
        """Every pod is of the newest template; some may be missing or start."""
        return self.seen and self.updated == self.there


def rollout_of(facts: Facts | None) -> Rollout:
    """All zero when there is no Deployment."""
    if facts is None:
        return Rollout()
    body = facts.body
    status = body.get("status", {})
    stalled = [
        f"{c.get('reason', '')}: {c.get('message', '')}"
        for c in status.get("conditions", [])
        if (c["type"], c["status"]) in (("Progressing", "False"), ("ReplicaFailure", "True"))
    ]
    return Rollout(
        wanted=body["spec"].get("replicas", 1),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        updated=status.get("updatedReplicas", 0),
        there=status.get("replicas", 0),
        seen=status.get("observedGeneration", 0) >= body["metadata"].get("generation", 0),
        stalled="; ".join(sorted(stalled)),
    )


@dataclass(frozen=True, slots=True)
class Pod:
    """What is read of one pod. ``problem`` is why it can't become ready by itself, empty when it may."""

    uid: str
    name: str
    address: str
    role: str
    ready: bool
    problem: str = ""
    reason: Reason = Reason.ROLLOUT_STALLED
    startup_seconds: float | None = None  # from made to ready, scheduling and pulling included


def startup_seconds(pods: Iterable[Pod], *, role: str) -> float | None:
    """The shortest of the pods': one whose readiness came back later says nothing of starting."""
    return min((p.startup_seconds for p in pods if p.role == role and p.startup_seconds is not None), default=None)


def pod_of(body: Body, *, role: str) -> Pod:
    metadata, status = body["metadata"], body.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    ready = conditions.get("Ready", {}).get("status") == "True" and "deletionTimestamp" not in metadata
    reason, problem = _problem(status, conditions)
    return Pod(
        uid=metadata["uid"],
        name=metadata["name"],
        address=status.get("podIP", ""),
        role=role,
        ready=ready,
        problem="" if ready or not problem else f"pod {metadata['name']}: {problem}",
        reason=reason,
        startup_seconds=_startup_seconds(metadata, conditions) if ready else None,
    )


def _startup_seconds(metadata: Body, conditions: Mapping[str, Body]) -> float | None:
    made, became = metadata.get("creationTimestamp"), conditions["Ready"].get("lastTransitionTime")
    if made is None or became is None:
        return None
    return max((datetime.fromisoformat(became) - datetime.fromisoformat(made)).total_seconds(), 0.0)


def _problem(status: Body, conditions: Mapping[str, Body]) -> tuple[Reason, str]:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return Reason.UNSCHEDULABLE, scheduled.get("message", "no node has room")
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        why, said = waiting.get("reason", ""), waiting.get("message", "")
        if why in _PULL_ERRORS:
            return Reason.IMAGE_PULL_FAILED, f"{container['image']}: {said or why}"
        if why in _CONFIGURATION_ERRORS:
            return Reason.ROLLOUT_STALLED, f"{container['name']}: {said or why}"
        if why == "CrashLoopBackOff":
            return _crash(container)
    return Reason.ROLLOUT_STALLED, ""


def _crash(container: Body) -> tuple[Reason, str]:
    last = container.get("lastState", {}).get("terminated", {})
    memory = last.get("reason") == "OOMKilled"
    said = (last.get("message") or "").strip() or f"exit code {last.get('exitCode', 'unknown')}"
    reason = Reason.OUT_OF_MEMORY if memory else Reason.ROLLOUT_STALLED
    return reason, f"{container['name']} ends again and again: {said[:600]}"


def worst(pods: Iterable[Pod]) -> Pod | None:
    """The first pod that can't become ready by itself, in the order of names."""
    broken: Sequence[Pod] = sorted((p for p in pods if p.problem), key=lambda p: p.name)
    return broken[0] if broken else None
