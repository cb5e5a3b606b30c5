"""What the watches have seen, kept small: compact bytes per object, parsed when a pass asks.

User objects and HardwareClasses are kept as they are (less managedFields). Of children only what a pass compares or
reads: see ``_project``. Children are found by the uid of their controller, so a name reused by a new owner can never
be mistaken for an own child.
"""

import json
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cycleops.controller import metrics
from cycleops.controller.kinds import CONFIG_MAP, JOB, POD_DISRUPTION_BUDGET, SECRET, Kind

Body = dict[str, Any]
Name = tuple[str, str, str]  # kind, namespace, name
_TOMBSTONES = 20_000
# Of a Job's spec the rest can't be changed by anyone.
_MUTABLE_JOB_SPEC = ("suspend", "parallelism", "completions", "backoffLimit", "activeDeadlineSeconds")


@dataclass(frozen=True, slots=True)
class Facts:
    """One object that a watch has shown."""

    kind: str
    namespace: str
    name: str
    uid: str
    owner_uid: str
    version: int
    deleting: bool
    raw: bytes

    @property
    def body(self) -> Body:
        """A fresh copy of what is kept of the object."""
        result: Body = json.loads(self.raw)
        return result


def controller_uid(body: Body) -> str:
    """The uid of the controlling owner; empty when there is none."""
    for reference in body["metadata"].get("ownerReferences", []):
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


def _project(kind: str, body: Body) -> Body:
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    kept = {key: value for key, value in body.items() if key not in ("metadata", "apiVersion", "kind")}
    if kind == SECRET.kind:
        kept = {}  # that it is there is enough; keys stay out of memory
    elif kind == JOB.kind:
        spec = body.get("spec", {})
        kept = {
            "spec": {key: spec[key] for key in _MUTABLE_JOB_SPEC if key in spec},
            "status": body.get("status", {}),
        }
    elif kind == POD_DISRUPTION_BUDGET.kind:
        kept = {"spec": body.get("spec", {})}
    elif kind == CONFIG_MAP.kind:
        kept = {"data": body.get("data", {})}
    return {"metadata": metadata, **kept}


class Store:
    """Single-threaded: used from one event loop."""

    def __init__(self) -> None:
        self._facts: dict[Name, Facts] = {}
        self._by_owner: defaultdict[str, set[Name]] = defaultdict(set)
        self._gone: OrderedDict[str, int] = OrderedDict()

    def put(self, kind: Kind, body: Body) -> bool:
        """Remember an object. False when this version, or a newer one, or its deletion, was known already."""
        metadata = body["metadata"]
        version, uid = int(metadata["resourceVersion"]), metadata["uid"]
        name = (kind.kind, metadata.get("namespace", ""), metadata["name"])
        known = self._facts.get(name)
        if self._gone.get(uid, -1) >= version or (known is not None and known.version >= version):
            return False
        if known is not None:
            self._forget(name)
        facts = Facts(
            kind=kind.kind,
            namespace=name[1],
            name=name[2],
            uid=uid,
            owner_uid=controller_uid(body),
            version=version,
            deleting="deletionTimestamp" in metadata,
            raw=json.dumps(_project(kind.kind, body), separators=(",", ":")).encode(),
        )
        self._facts[name] = facts
        if facts.owner_uid:
            self._by_owner[facts.owner_uid].add(name)
        metrics.STORED.labels(kind=kind.kind).inc()
        return True

    def remove(self, kind: Kind, body: Body) -> Facts | None:
        """Forget a deleted object. Returns what was known of it."""
        metadata = body["metadata"]
        self._bury(metadata["uid"], int(metadata["resourceVersion"]))
        name = (kind.kind, metadata.get("namespace", ""), metadata["name"])
        known = self._facts.get(name)
        if known is None or known.uid != metadata["uid"]:
            return None
        return self._forget(name)

    def gone(self, facts: Facts) -> None:
        """The API server says that the object is not there (a delete of our own, or a 404)."""
        name = (facts.kind, facts.namespace, facts.name)
        if self._facts.get(name) == facts:
            self._forget(name)

    def reconcile_listing(self, kind: Kind, bodies: Iterable[Body], *, version: int) -> list[Facts]:
        """Take in a full listing made at ``version``. Returns what it shows to be gone, in watches that missed it."""
        listed: set[str] = set()
        for body in bodies:
            listed.add(body["metadata"]["uid"])
            self.put(kind, body)
        missed = [f for f in self.all(kind) if f.uid not in listed and f.version <= version]
        for facts in missed:
            self._bury(facts.uid, version)
            self._forget((facts.kind, facts.namespace, facts.name))
        return missed

    def get(self, kind: Kind, *, name: str, namespace: str = "") -> Facts | None:
        return self._facts.get((kind.kind, namespace, name))

    def all(self, kind: Kind) -> Iterator[Facts]:
        return (facts for facts in list(self._facts.values()) if facts.kind == kind.kind)

    def children(self, owner_uid: str) -> dict[tuple[str, str], Facts]:
        """Objects whose controller is ``owner_uid``, by (kind, name)."""
        names = self._by_owner.get(owner_uid, ())
        return {(name[0], name[2]): self._facts[name] for name in names}

    def _bury(self, uid: str, version: int) -> None:
        self._gone[uid] = max(version, self._gone.get(uid, -1))
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)

    def _forget(self, name: Name) -> Facts:
        facts = self._facts.pop(name)
        owned = self._by_owner.get(facts.owner_uid)
        if owned is not None:
            owned.discard(name)
            if not owned:
                del self._by_owner[facts.owner_uid]
        metrics.STORED.labels(kind=facts.kind).dec()
        return facts
