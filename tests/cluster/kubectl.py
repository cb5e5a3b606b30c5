"""A thin wrapper around the kubectl binary, for the demo and the end-to-end tests."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]


class KubectlError(RuntimeError):
    """kubectl exited non-zero; the message is its standard error."""


class WaitTimeout(AssertionError):  # noqa: N818 (it reads as what happened)
    """An object did not get into the awaited state in time; the message shows its last state."""


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl against one cluster, in one namespace unless a call names another."""

    kubeconfig: Path
    binary: str = "kubectl"
    namespace: str = "default"

    def within(self, namespace: str) -> "Kubectl":
        return Kubectl(self.kubeconfig, self.binary, namespace)

    def command(self, *arguments: str) -> list[str]:
        return [self.binary, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *arguments]

    def run(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
        """Standard output. Raises KubectlError when kubectl fails."""
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, manifest: Object | list[Object] | Path) -> str:
        """Plain client-side `kubectl apply`, as users do it, of a file or of objects."""
        if isinstance(manifest, Path):
            return self.run("apply", "-f", str(manifest))
        items = manifest if isinstance(manifest, list) else [manifest]
        return self.run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def get(self, kind: str, name: str) -> Object | None:
        """The object, or None when it does not exist."""
        text = self.run("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, selector: str = "") -> "list[Object]":
        arguments = ["get", kind, "-o", "json"] + (["-l", selector] if selector else [])
        items: list[Object] = json.loads(self.run(*arguments))["items"]
        return items

    def delete(self, kind: str, name: str, *arguments: str) -> None:
        self.run("delete", kind, name, "--ignore-not-found", *arguments, timeout_seconds=180)

    def logs(self, target: str, *arguments: str) -> str:
        return self.run("logs", target, *arguments)

    def poll(self, kind: str, name: str, *, timeout_seconds: float, every_seconds: float = 1.0) -> Iterator[Object]:
        """The object again and again until the caller stops; raises WaitTimeout in the end."""
        deadline = time.monotonic() + timeout_seconds
        last: Object | None = None
        while time.monotonic() < deadline:
            last = self.get(kind, name)
            if last is not None:
                yield last
            time.sleep(every_seconds)
        state = json.dumps((last or {}).get("status", "it does not exist"), indent=1)
        raise WaitTimeout(f"{kind}/{name} in {self.namespace}: not as awaited after {timeout_seconds:.0f} s: {state}")

    def wait_for(
        self, kind: str, name: str, predicate: Callable[[Object], bool], *, timeout_seconds: float = 60
    ) -> Object:
        """The object once `predicate` holds of it."""
        for item in self.poll(kind, name, timeout_seconds=timeout_seconds):
            if predicate(item):
                return item
        raise AssertionError("poll ends only by raising")


def condition(item: Object, kind: str) -> Object:
    """The condition of this type, or an empty one with status Unknown."""
    for entry in item.get("status", {}).get("conditions", []):
        if entry["type"] == kind:
            return dict(entry)
    return {"type": kind, "status": "Unknown", "reason": "", "message": ""}


def has_condition(kind: str, status: str, reason: str | None = None) -> Callable[[Object], bool]:
    """A predicate for `wait_for`; a condition of an older generation does not count."""

    def holds(item: Object) -> bool:
        found = condition(item, kind)
        current = found.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
        return current and found["status"] == status and reason in (None, found["reason"])

    return holds
