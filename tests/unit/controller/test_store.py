"""What the watches have seen: newest wins, in whatever order news arrives."""

from typing import Any

from cycleops.controller.kinds import CYCLE_JOB, JOB, SECRET
from cycleops.controller.store import Store


def job(version: int, *, uid: str = "u", owner: str = "o", **fields: Any) -> dict[str, Any]:
    references = [{"uid": owner, "controller": True, "kind": "CycleJob", "name": "j"}]
    metadata: dict[str, Any] = {"name": "x", "namespace": "ns", "uid": uid, "resourceVersion": str(version)}
    metadata["ownerReferences"] = references
    return {"metadata": metadata, "spec": {"suspend": False, "template": {"big": 1}}, "status": {}, **fields}


def test_old_news_is_no_news() -> None:
    store = Store()
    assert store.put(JOB, job(5))
    assert not store.put(JOB, job(5))
    assert not store.put(JOB, job(4))
    assert store.put(JOB, job(6))


def test_a_listing_does_not_bring_back_what_was_deleted() -> None:
    store = Store()
    store.put(JOB, job(5))
    store.remove(JOB, job(8))
    assert not store.put(JOB, job(5))
    assert store.reconcile_listing(JOB, [job(5)], version=6) == []
    assert store.get(JOB, namespace="ns", name="x") is None


def test_a_listing_shows_what_a_watch_missed() -> None:
    store = Store()
    store.put(JOB, job(5))
    (missed,) = store.reconcile_listing(JOB, [], version=9)
    assert missed.uid == "u"
    assert store.children("o") == {}


def test_a_listing_does_not_remove_what_is_newer_than_it() -> None:
    store = Store()
    store.put(JOB, job(12))
    assert store.reconcile_listing(JOB, [], version=9) == []
    assert store.children("o")


def test_the_deletion_of_a_namesake_removes_nothing() -> None:
    store = Store()
    store.put(JOB, job(9, uid="new"))
    assert store.remove(JOB, job(8, uid="old")) is None
    assert store.get(JOB, namespace="ns", name="x") is not None


def test_only_what_is_needed_is_kept() -> None:
    store = Store()
    store.put(JOB, job(1))
    secret = {**job(1, uid="s"), "data": {"id": "cHJpdmF0ZQ=="}}
    store.put(SECRET, secret)
    cycle = {"metadata": {"name": "j", "namespace": "ns", "uid": "o", "resourceVersion": "1", "managedFields": [1]}}
    store.put(CYCLE_JOB, cycle)
    children = store.children("o")
    assert "template" not in children["Job", "x"].body["spec"]
    assert b"cHJpdmF0ZQ" not in children["Secret", "x"].raw
    facts = store.get(CYCLE_JOB, namespace="ns", name="j")
    assert facts is not None and "managedFields" not in facts.body["metadata"]
