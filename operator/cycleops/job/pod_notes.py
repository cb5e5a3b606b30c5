"""In a few words, why pods don't run. Pure."""

from collections.abc import Iterable
from typing import Any

_MAXIMUM_NOTES = 3
_MAXIMUM_LENGTH = 300
_ORDINARY = ("ContainerCreating", "PodInitializing")


def pod_notes(pods: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """At most three notes, without numbers that change by themselves, the same for the same trouble."""
    notes = {note: None for pod in sorted(pods, key=lambda p: str(p["metadata"]["name"])) if (note := _note(pod))}
    return tuple(notes)[:_MAXIMUM_NOTES]


def _note(pod: dict[str, Any]) -> str:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _cut(f"pod {name} can't be scheduled: {condition.get('message', '')}")
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting", {})
        if waiting and waiting.get("reason") not in _ORDINARY:
            return _cut(f"pod {name}: {waiting.get('reason')}: {waiting.get('message', '')}")
        ended = container.get("state", {}).get("terminated", {})
        if ended and ended.get("exitCode"):
            said = " ".join(str(ended.get("message", "")).split())[-200:]
            return _cut(f"pod {name} ended with {ended['exitCode']} ({ended.get('reason')}) {said}".rstrip())
    return ""


def _cut(text: str) -> str:
    return text if len(text) <= _MAXIMUM_LENGTH else text[: _MAXIMUM_LENGTH - 3] + "..."
