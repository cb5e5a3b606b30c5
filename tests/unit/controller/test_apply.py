"""Desired and observed to writes: the fewest, and none when all is well."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycleops.controller.apply import merge_patch, operations, with_digest
from cycleops.controller.difference import first_difference
from cycleops.controller.kinds import CONFIG_MAP, JOB, SECRET, SERVICE, Kind
from cycleops.controller.store import Facts, Store


def body(kind: Kind, name: str = "x", **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "labels": {"a": "b"}}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}


def observed(kind: Kind, desired: dict[str, Any], **changes: Any) -> dict[tuple[str, str], Facts]:
    """What a watch shows after the API server stored ``desired`` and someone made ``changes``."""
    stored = json.loads(json.dumps(with_digest(desired))) | changes
    owner = {"uid": "owner", "controller": True, "kind": "CycleJob", "name": "j"}
    stored["metadata"] |= {"uid": "u1", "resourceVersion": "7", "ownerReferences": [owner]}
    store = Store()
    store.put(kind, stored)
    return store.children("owner")


JOB_SPEC = {"suspend": False, "parallelism": 2, "completions": 2, "template": {"spec": {"containers": []}}}


@pytest.mark.parametrize("kind", [JOB, SECRET, SERVICE, CONFIG_MAP])
def test_what_is_missing_is_created(kind: Kind) -> None:
    (operation,) = operations(desired=[body(kind, spec={})], observed={})
    assert (operation.verb, operation.uid) == ("create", "")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (JOB, {"spec": JOB_SPEC}),
        (SECRET, {"data": {"k": "v"}}),
        (CONFIG_MAP, {"data": {"k": "v"}}),
        (SERVICE, {"spec": {"ports": [{"name": "p", "port": 80}], "selector": {"a": "b"}}}),
    ],
)
def test_what_is_as_desired_is_left_alone(kind: Kind, fields: dict[str, Any]) -> None:
    desired = body(kind, **fields)
    assert operations(desired=[desired], observed=observed(kind, desired)) == []


def test_fields_of_others_do_not_count() -> None:
    desired = body(SERVICE, spec={"ports": [{"name": "p", "port": 80}]})
    others = {"ports": [{"name": "q", "port": 81}, {"name": "p", "port": 80, "protocol": "TCP"}], "clusterIP": "None"}
    assert operations(desired=[desired], observed=observed(SERVICE, desired, spec=others)) == []


def test_an_edited_child_is_applied_with_its_uid() -> None:
    desired = body(CONFIG_MAP, data={"k": "v"})
    (operation,) = operations(desired=[desired], observed=observed(CONFIG_MAP, desired, data={"k": "changed"}))
    assert (operation.verb, operation.uid, operation.body["metadata"]["uid"]) == ("apply", "u1", "u1")


def test_what_is_wanted_no_longer_is_applied_away() -> None:
    before = body(SERVICE, spec={"ports": [{"name": "p", "port": 80}], "selector": {"a": "b", "c": "d"}})
    desired = body(SERVICE, spec={"ports": [{"name": "p", "port": 80}], "selector": {"a": "b"}})
    (operation,) = operations(desired=[desired], observed=observed(SERVICE, before))
    assert (operation.verb, operation.body["spec"]) == ("apply", desired["spec"])
    assert operations(desired=[desired], observed=observed(SERVICE, desired)) == []


def test_of_a_job_only_fields_that_can_change_are_patched() -> None:
    desired = body(JOB, spec=JOB_SPEC)
    edited = {"suspend": True, "parallelism": 5, "completions": 2}
    (operation,) = operations(desired=[desired], observed=observed(JOB, desired, spec=edited))
    assert (operation.verb, operation.body) == ("patch", {"spec": {"suspend": False, "parallelism": 2}})


def test_a_finished_job_is_left_alone() -> None:
    desired = body(JOB, spec=JOB_SPEC)
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    seen = observed(JOB, desired, spec={"suspend": True}, status=done)
    assert operations(desired=[desired], observed=seen) == []


def test_what_is_being_deleted_is_waited_for() -> None:
    desired = body(CONFIG_MAP, data={"k": "v"})
    desired["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z"
    seen = observed(CONFIG_MAP, desired, data={})
    assert operations(desired=[desired], observed=seen, delete=list(seen.values())) == []


@pytest.mark.parametrize(
    ("desired", "seen", "path"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": 1}, {}, "a"),
        ({"a": {}}, {}, None),
        ({"args": ["x"]}, {"args": ["x", "y"]}, "args"),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "B"}, {"name": "A", "value": "2"}]}, "env[A].value"),
        ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}, None),
        ({"limits": {"memory": "1024Mi"}}, {"limits": {"memory": "1Gi"}}, None),
        ({"limits": {"cpu": "2"}}, {"limits": {"cpu": "1"}}, "limits.cpu"),
        ({"tolerations": [{"operator": "Exists"}]}, {"tolerations": [{"operator": "Exists"}, {"key": "q"}]}, None),
    ],
)
def test_first_difference(desired: Any, seen: Any, path: str | None) -> None:
    assert first_difference(desired, seen) == path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), JSON.filter(lambda v: v is not None), max_size=4)


def without_nulls(value: Any) -> Any:
    """A status never holds null, which a merge patch can't set."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return value


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(OBJECTS.map(without_nulls), OBJECTS.map(without_nulls))
def test_merge_patch_leads_from_one_to_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = merge_patch(old, new)
    assert merged(old, patch) == new
    assert (patch == {}) == (old == new)
