"""Waits that tell people what they wait for."""

from typing import Any

from demo.narrator import Narrator
from tests.cluster.kubectl import Kubectl, condition

Object = dict[str, Any]
STAGES = ("Admitted", "WorldVerified", "Trained", "Compressed", "Profiled")


class DemoError(RuntimeError):
    """The demo can't go on; the message says what the cluster said."""


def job(kubectl: Kubectl, name: str, narrator: Narrator, *, timeout_seconds: float = 1800) -> Object:
    """Follow a CycleJob to its end; raises DemoError when it fails."""
    said: dict[str, str] = {}
    for seen in kubectl.poll("cyclejob", name, timeout_seconds=timeout_seconds):
        _say_conditions(seen, STAGES, said, narrator)
        progress = seen.get("status", {}).get("progress")
        if progress and condition(seen, "Trained")["status"] != "True":
            loss = f"{progress['loss']:.3f}" if progress.get("loss") is not None else "?"
            rate = progress.get("samplesPerSecond") or 0
            narrator.say(f"step {progress['step']}/{progress['totalSteps']}  loss {loss}  {rate:.0f} samples/s")
        if condition(seen, "Failed")["status"] == "True":
            failed = condition(seen, "Failed")
            raise DemoError(f"CycleJob {name} failed: {failed['reason']}: {failed['message']}")
        if condition(seen, "Succeeded")["status"] == "True":
            return seen
    raise AssertionError("poll ends only by raising")


def _say_conditions(seen: Object, kinds: tuple[str, ...], said: dict[str, str], narrator: Narrator) -> None:
    for kind in kinds:
        state = condition(seen, kind)
        text = f"{kind}={state['status']} {state['reason']}: {state['message']}"
        if state["reason"] and said.get(kind) != text:
            said[kind] = text
            narrator.say(text)


def service(kubectl: Kubectl, name: str, narrator: Narrator, *, timeout_seconds: float = 300) -> Object:
    """Follow a CycleService until it is ready; raises DemoError when no plan is feasible."""
    said: dict[str, str] = {}
    for seen in kubectl.poll("cycleservice", name, timeout_seconds=timeout_seconds):
        _say_conditions(seen, ("ModelReady", "Feasible", "Ready"), said, narrator)
        if condition(seen, "Feasible")["status"] == "False":
            raise DemoError(condition(seen, "Feasible")["message"])
        if condition(seen, "Ready")["status"] == "True":
            return seen
    raise AssertionError("poll ends only by raising")
