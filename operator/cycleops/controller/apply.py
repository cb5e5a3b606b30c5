"""From desired children and what is there to the fewest writes, and the writes.

``operations`` is pure. What is missing is created, in one request: a name that someone else holds is then a problem to
show, never an adoption. Of what exists a Secret is left alone, and of a Job only the fields that can change are
patched; other children are server-side applied when a field that we own differs, with their uid as precondition.
They carry the digest of what was wanted: a field that is wanted no longer is missed by no comparison, but changes that.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cycleops.controller import metrics
from cycleops.controller.difference import first_difference
from cycleops.controller.kinds import BY_KIND, FIELD_MANAGER, JOB, SECRET, Kind
from cycleops.controller.kube import AlreadyExistsError, ApiError, ForbiddenError, InvalidError, Kube
from cycleops.controller.store import Body, Facts, Store, controller_uid

logger = logging.getLogger(__name__)

Verb = Literal["create", "apply", "patch", "delete"]
_JOB_FIELDS = ("suspend", "parallelism", "completions", "backoffLimit", "activeDeadlineSeconds")
WANTED_ANNOTATION = "cycleops.dev/wanted"
# What others mount or resolve comes before the pods that need it: a kubelet that misses a Secret waits long.
_LATE = (JOB.kind, "Deployment")


@dataclass(frozen=True, slots=True)
class Operation:
    verb: Verb
    kind: Kind
    namespace: str
    name: str
    body: Body
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A write that the API server refused and that trying again at once would not help."""

    kind: str
    name: str
    reason: Literal["NameTaken", "Rejected", "Forbidden"]
    message: str


def operations(
    *, desired: Sequence[Body], observed: Mapping[tuple[str, str], Facts], delete: Sequence[Facts] = ()
) -> list[Operation]:
    """The writes that are missing. Pure: no I/O, no clock."""
    result = [Operation("delete", BY_KIND[f.kind], f.namespace, f.name, {}, f.uid) for f in delete if not f.deleting]
    for body in map(with_digest, desired):
        kind, metadata = BY_KIND[body["kind"]], body["metadata"]
        facts = observed.get((kind.kind, metadata["name"]))
        verb, patch = _needed(kind, body, facts)
        if verb is not None:
            uid = facts.uid if facts is not None else ""
            result.append(Operation(verb, kind, metadata["namespace"], metadata["name"], patch, uid))
    return result


def with_digest(body: Body) -> Body:
    """``body`` with its digest in an annotation, if it is of a kind that is applied."""
    if body["kind"] in (JOB.kind, SECRET.kind):
        return body
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    annotations = {**body["metadata"].get("annotations", {}), WANTED_ANNOTATION: digest}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def _needed(kind: Kind, body: Body, facts: Facts | None) -> tuple[Verb | None, Body]:
    if facts is None:
        return "create", body
    if facts.deleting or kind.kind == SECRET.kind:
        return None, {}  # its deletion event brings us back; a Secret is immutable
    observed = facts.body
    if kind.kind == JOB.kind:
        patch = _job_patch(body, observed)
        return ("patch", patch) if patch else (None, {})
    owned = {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}
    if first_difference(owned, observed) is None:
        return None, {}
    return "apply", {**body, "metadata": {**body["metadata"], "uid": facts.uid}}


def _job_patch(desired: Body, observed: Body) -> Body:
    if any(
        c["status"] == "True" and c["type"] in ("Complete", "Failed") for c in observed["status"].get("conditions", [])
    ):
        return {}
    spec = {
        name: desired["spec"][name]
        for name in _JOB_FIELDS
        if name in desired["spec"] and observed["spec"].get(name) != desired["spec"][name]
    }
    labels = desired["metadata"].get("labels", {})
    patch: Body = {"spec": spec} if spec else {}
    if first_difference(labels, observed["metadata"].get("labels", {})) is not None:
        patch["metadata"] = {"labels": labels}
    return patch


class Applier:
    """Performs operations and keeps the store up to date with their results, so that no pass acts on old news."""

    def __init__(self, *, kube: Kube, store: Store) -> None:
        self._kube = kube
        self._store = store

    async def perform(self, wanted: Iterable[Operation], *, owner_uid: str) -> tuple[Problem, ...]:
        """Everything that the pods need first, then the pods' owners; each group at once.

        Raises :class:`ApiError` for what a retry may cure, after the other writes of the group ended.
        """
        wanted = list(wanted)
        problems: list[Problem] = []
        early = [o for o in wanted if o.verb == "delete" or o.kind.kind not in _LATE]
        for group in (early, [o for o in wanted if o not in early]):
            results = await asyncio.gather(
                *(self._one(operation, owner_uid=owner_uid) for operation in group), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
                if result is not None:
                    problems.append(result)
        return tuple(problems)

    async def create_free(self, bodies: Iterable[Body]) -> None:
        """Create objects that nobody owns. Their names say what is in them, so one that exists already will do.

        Raises :class:`ApiError` when one is refused: what reported it must not be told that it is stored.
        """
        for body in bodies:
            kind, metadata = BY_KIND[body["kind"]], body["metadata"]
            if self._store.get(kind, namespace=metadata["namespace"], name=metadata["name"]) is not None:
                continue
            metrics.WRITES.labels(kind=kind.kind, verb="create").inc()
            try:
                self._store.put(kind, await self._kube.create(kind=kind, namespace=metadata["namespace"], body=body))
            except AlreadyExistsError:
                continue

    async def _one(self, operation: Operation, *, owner_uid: str) -> Problem | None:
        try:
            return await self._write(operation, owner_uid=owner_uid)
        except (InvalidError, ForbiddenError) as error:
            reason: Literal["Rejected", "Forbidden"] = "Rejected" if isinstance(error, InvalidError) else "Forbidden"
            logger.warning("%s %s/%s: %s", operation.kind.kind, operation.namespace, operation.name, error)
            return Problem(operation.kind.kind, operation.name, reason, error.message[:500])

    async def _write(self, operation: Operation, *, owner_uid: str) -> Problem | None:
        kind, namespace, name = operation.kind, operation.namespace, operation.name
        metrics.WRITES.labels(kind=kind.kind, verb=operation.verb).inc()
        if operation.verb == "delete":
            await self._kube.delete(kind=kind, name=name, uid=operation.uid, namespace=namespace)
            return None
        if operation.verb == "patch":
            body = {**operation.body, "metadata": {**operation.body.get("metadata", {}), "uid": operation.uid}}
            self._store.put(kind, await self._kube.merge(kind=kind, name=name, namespace=namespace, body=body))
            return None
        if operation.verb == "create":
            try:
                self._store.put(kind, await self._kube.create(kind=kind, namespace=namespace, body=operation.body))
            except AlreadyExistsError:
                return await self._taken(operation, owner_uid=owner_uid)
            return None
        await self._apply(operation)
        return None

    async def _apply(self, operation: Operation) -> None:
        kind, namespace, name = operation.kind, operation.namespace, operation.name
        metadata = await self._kube.find_metadata(kind=kind, name=name, namespace=namespace)
        if metadata is None:
            raise ApiError(code=409, reason="Gone", message=f"{kind.kind} {namespace}/{name} vanished meanwhile")
        if (entries := owned_by_apply(metadata.get("managedFields", []))) is not None:
            taken = {key: metadata[key] for key in ("uid", "resourceVersion")} | {"managedFields": entries}
            await self._kube.merge(kind=kind, name=name, namespace=namespace, body={"metadata": taken})
        _, result = await self._kube.apply(kind=kind, namespace=namespace, body=operation.body)
        self._store.put(kind, result)
        owned = {key: value for key, value in operation.body.items() if key not in ("apiVersion", "kind")}
        difference = first_difference(owned, result)
        if difference is not None:
            logger.warning("%s %s/%s: the API server keeps another value at %s", kind.kind, namespace, name, difference)

    async def _taken(self, operation: Operation, *, owner_uid: str) -> Problem | None:
        """The name exists although no watch showed it as ours: a watch that lags, or someone else's object."""
        kind, namespace, name = operation.kind, operation.namespace, operation.name
        current = await self._kube.find(kind=kind, name=name, namespace=namespace)
        if current is None:
            raise ApiError(code=409, reason="Gone", message=f"{kind.kind} {namespace}/{name} vanished meanwhile")
        self._store.put(kind, current)
        if controller_uid(current) == owner_uid:
            return None
        owner = next((r for r in current["metadata"].get("ownerReferences", []) if r.get("controller")), None)
        whose = f"belongs to {owner['kind']} {owner['name']}" if owner else "has no owner"
        message = f"{kind.kind} {name} exists already and {whose}: delete or rename it"
        return Problem(kind.kind, name, "NameTaken", message)


def owned_by_apply(entries: Sequence[Body]) -> list[Body] | None:
    """An object's managedFields with what we created as if we had applied it; None when nothing is to change.

    Else a field that we created, and later leave out of what we apply, would stay: the creation goes on owning it.
    """
    created = [e for e in entries if e.get("manager") == FIELD_MANAGER and e.get("operation") == "Update"]
    created = [e for e in created if not e.get("subresource")]
    if not created:
        return None
    return [{**entry, "operation": "Apply"} if entry in created else entry for entry in entries]


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Body:
    """The smallest JSON merge patch (RFC 7386) that makes ``new`` of ``old``; empty when they are equal."""
    patch: Body = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_patch(before, value)
            if inner:
                patch[key] = inner
        elif value != before or key not in old:
            patch[key] = value
    return patch
