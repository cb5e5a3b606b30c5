"""Created, then applied: on a real API server, as the operator's ServiceAccount."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from cycleops.controller.apply import Applier, operations
from cycleops.controller.kinds import CONFIG_MAP, SERVICE, Kind
from cycleops.controller.kube import Kube
from cycleops.controller.store import Store

Body = dict[str, Any]
OWNER = {"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "0-0", "controller": True}
BEFORE: dict[Kind, Body] = {
    CONFIG_MAP: {"data": {"kept": "1", "dropped": "1"}},
    SERVICE: {"spec": {"ports": [{"name": "kept", "port": 80}, {"name": "dropped", "port": 81}]}},
}
AFTER: dict[Kind, Body] = {
    CONFIG_MAP: {"data": {"kept": "2"}},
    SERVICE: {"spec": {"ports": [{"name": "kept", "port": 80, "targetPort": 8080}]}},
}


async def write(body: Body, *, store: Store) -> None:
    async with Kube.from_environment() as kube:
        wanted = operations(desired=[body], observed=store.children("0-0"))
        assert await Applier(kube=kube, store=store).perform(wanted, owner_uid="0-0") == ()


@pytest.mark.parametrize("kind", [CONFIG_MAP, SERVICE], ids=lambda kind: kind.kind)
def test_a_created_field_that_is_no_longer_wanted_goes_and_one_of_others_stays(
    admin: httpx.Client, operator_kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(operator_kubeconfig))
    name, store = f"applied-{kind.plural}", Store()
    metadata = {"name": name, "namespace": "default", "labels": {"ours": "yes"}, "ownerReferences": [OWNER]}
    path = kind.path(namespace="default", name=name)
    for fields in (BEFORE[kind], AFTER[kind]):
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}
        asyncio.run(write(body, store=store))
        others = {"metadata": {"annotations": {"theirs": "yes"}}}
        admin.patch(path, json=others, headers={"Content-Type": "application/merge-patch+json"}).raise_for_status()
    found = admin.get(path).raise_for_status().json()
    admin.delete(path).raise_for_status()
    assert found["metadata"]["annotations"] == {"theirs": "yes"}
    if kind is CONFIG_MAP:
        assert found["data"] == {"kept": "2"}
    else:
        assert [(port["name"], port["targetPort"]) for port in found["spec"]["ports"]] == [("kept", 8080)]
    ours = [entry["operation"] for entry in found["metadata"]["managedFields"] if entry["manager"] == "cycleops"]
    assert ours == ["Apply"]
