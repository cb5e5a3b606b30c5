"""The CRDs before a real API server: what it accepts, refuses, fills in and keeps."""

import operator
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx
import pytest
import yaml

from cycleops.api.base import Kind
from cycleops.api.crd import KINDS
from cycleops.api.schema import object_schema
from tests.api.kubeapi import NAMESPACED, Object, collection, connect, create, replace
from tests.api.tables import ROOT, Case, base, cases, merged

Same = Callable[[Any, Any], bool]
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MODELS: dict[str, type[Kind]] = {kind.__name__: kind for kind in KINDS}
KIND_NAMES = sorted(MODELS)
SERVED_SECONDS = 30


@pytest.fixture(scope="module")
def client(api_server: Any) -> Iterator[httpx.Client]:
    with connect(api_server.kubeconfig) as connected:
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            definition = yaml.safe_load(path.read_text())
            name = definition["metadata"]["name"]
            # The CRDs are the cluster's: another test module may have brought them already.
            applied = connected.patch(
                f"{DEFINITIONS}/{name}",
                params={"fieldManager": "tests", "force": "true", "fieldValidation": "Strict"},
                headers={"Content-Type": "application/apply-patch+yaml"},
                content=path.read_text(),
            )
            assert applied.status_code in (200, 201), applied.text
            _wait_until_served(connected, name)
        yield connected


def _wait_until_served(client: httpx.Client, name: str) -> None:
    plural, _, group = name.partition(".")
    deadline = time.monotonic() + SERVED_SECONDS
    while time.monotonic() < deadline:
        if client.get(f"/apis/{group}/v1alpha1/{plural}").status_code == 200:
            return
        time.sleep(0.1)
    pytest.fail(f"{name} is not served after {SERVED_SECONDS} s")


@pytest.fixture
def namespace(client: httpx.Client) -> Iterator[str]:
    name = f"crds-{uuid.uuid4().hex[:8]}"
    client.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
    yield name
    for kind in KIND_NAMES:
        client.delete(collection(kind, name))
    client.delete(f"/api/v1/namespaces/{name}")


def named(rows: list[Case]) -> list[Any]:
    return [pytest.param(row, id=row.name.replace(" ", "-")) for row in rows]


def missing(submitted: Any, stored: Any, path: str = "", same: Same = operator.eq) -> list[str]:
    """Paths of what was submitted and is not stored as it was."""
    if isinstance(submitted, dict) and isinstance(stored, dict):
        items = [(f"{path}.{key}", value, stored.get(key)) for key, value in submitted.items()]
    elif isinstance(submitted, list) and isinstance(stored, list) and len(submitted) == len(stored):
        pairs = zip(submitted, stored, strict=True)
        items = [(f"{path}[{index}]", one, other) for index, (one, other) in enumerate(pairs)]
    else:
        return [] if same(submitted, stored) else [f"{path}: {submitted!r} became {stored!r}"]
    return [line for where, one, other in items for line in missing(one, other, where, same)]


def same_number(one: Any, other: Any) -> bool:
    """20 and "20", "1e-3" and "0.001" are the same to the operator."""
    try:
        return one == other or Decimal(str(one)) == Decimal(str(other))
    except InvalidOperation:
        return False


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_definition_is_established_and_structural(client: httpx.Client, kind: str) -> None:
    found = client.get(f"{DEFINITIONS}/{MODELS[kind].PLURAL}.cycleops.dev").raise_for_status().json()
    conditions = {condition["type"]: condition for condition in found["status"]["conditions"]}
    assert conditions["Established"]["status"] == "True"
    assert conditions["NamesAccepted"]["status"] == "True"
    assert conditions.get("NonStructuralSchema", {"status": "False"})["status"] == "False", conditions


@pytest.mark.parametrize("case", named(cases("good")))
def test_good_manifest_round_trips(client: httpx.Client, namespace: str, case: Case) -> None:
    manifest = case.changed
    created = create(client, manifest, namespace=namespace)
    assert created.status_code == 201, created.text
    assert "Warning" not in created.headers, created.headers["Warning"]
    path = f"{collection(manifest['kind'], namespace)}/{manifest['metadata']['name']}"
    stored = client.get(path).raise_for_status().json()
    assert missing(manifest, stored) == []
    # The operator reads whatever the API server accepts, and loses nothing of it either.
    parsed = MODELS[manifest["kind"]].model_validate(stored)
    assert missing(stored["spec"], parsed.to_dict()["spec"], same=same_number) == []
    if manifest["kind"] not in NAMESPACED:
        client.delete(path).raise_for_status()


@pytest.mark.parametrize("case", named(cases("bad")))
def test_bad_manifest_is_refused_and_the_field_named(client: httpx.Client, case: Case) -> None:
    answer = create(client, case.changed, namespace="default", dry_run=True)
    assert answer.status_code in (400, 422), f"accepted: {answer.text}"
    message = answer.json()["message"]
    assert [words for words in case.expect if words not in message] == [], message


@pytest.mark.parametrize("case", named(cases("updates")))
def test_update(client: httpx.Client, namespace: str, case: Case) -> None:
    created = create(client, case.base, namespace=namespace)
    assert created.status_code == 201, created.text
    path = f"{collection(case.base['kind'], namespace)}/{case.base['metadata']['name']}"
    try:
        answer = replace(client, merged(created.json(), case.change), namespace=namespace)
        if case.expect:
            assert answer.status_code == 422, f"accepted: {answer.text}"
            assert [words for words in case.expect if words not in answer.json()["message"]] == [], answer.text
        else:
            assert answer.status_code == 200, answer.text
            assert missing(case.change, answer.json()) == []
    finally:
        client.delete(path)


def test_defaults_are_filled(client: httpx.Client, namespace: str) -> None:
    job = create(client, base("smallJob"), namespace=namespace).raise_for_status().json()["spec"]
    names = ("text", "image", "label", "translation", "messages", "items", "heldOut")
    assert job["data"]["fields"] == {name: name for name in names}
    assert job["workers"] == {"backend": "Horovod", "transport": "MPI", "replicas": 1, "hardware": "cpu-small"}
    assert job["evaluation"] == {}, "all metrics of the task"
    assert job["variants"] == [{"name": "fp32", "precision": "Float32"}]
    assert job["runPolicy"] == {
        "backoffLimit": 2,
        "checkpoint": {"everySteps": 100, "keep": 2},
        "cleanPodPolicy": "Running",
        "progressDeadlineSeconds": 1800,
    }
    assert job["training"]["learningRate"] == "0.00005"
    assert job["suspend"] is False
    service = create(client, base("smallService"), namespace=namespace).raise_for_status().json()["spec"]
    assert service["replicas"] == {"minimum": 1, "maximum": 10, "holdSeconds": 90}
    assert service["planning"] == {"mode": "Automatic"}
    assert service["loadBalancing"] == {"algorithm": "LeastConnections"}
    assert service["budget"]["latency"]["percentile"] == "99"
    assert service["traffic"]["basis"] == "Maximum"
    assert "cache" not in service


@pytest.mark.parametrize("name", ["smallJob", "smallService", "smallClass"])
def test_models_fill_the_same_defaults(client: httpx.Client, name: str) -> None:
    """What the operator would fill in and what the API server fills in are the same."""
    stored = create(client, base(name), namespace="default", dry_run=True).raise_for_status().json()
    model = MODELS[stored["kind"]]
    assert model.model_validate(base(name)).to_dict()["spec"] == model.model_validate(stored).to_dict()["spec"]


def test_status_is_a_subresource(client: httpx.Client, namespace: str) -> None:
    sneaked = merged(base("smallJob"), {"status": {"restarts": 7}})
    created = create(client, sneaked, namespace=namespace).raise_for_status().json()
    assert "status" not in created
    written = replace(
        client,
        merged(created, {"spec": {"suspend": True}, "status": _status()}),
        namespace=namespace,
        subresource="/status",
    )
    assert written.status_code == 200, written.text
    stored = written.json()
    assert stored["spec"]["suspend"] is False
    assert stored["metadata"]["generation"] == created["metadata"]["generation"]
    assert stored["status"] == _status(), "something was pruned or added"
    scale = client.get(f"{collection('CycleJob', namespace)}/job/scale").raise_for_status().json()
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 1, "selector": "a=b"}


@pytest.mark.parametrize(("kind", "name"), [("CycleJob", "smallJob"), ("CycleService", "smallService")])
def test_every_field_of_status_is_kept(client: httpx.Client, namespace: str, kind: str, name: str) -> None:
    created = create(client, base(name), namespace=namespace).raise_for_status().json()
    full = sample(object_schema(MODELS[kind])["properties"]["status"])
    written = replace(client, created | {"status": full}, namespace=namespace, subresource="/status")
    assert written.status_code == 200, written.text
    assert written.json()["status"] == full
    assert MODELS[kind].model_validate(written.json()).to_dict()["status"] == full


def sample(schema: Object) -> Any:
    """A value with every field that a schema has."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {name: sample(field) for name, field in schema["properties"].items()}
    if schema["type"] == "array":
        return [sample(schema["items"])]
    text = "2026-11-24T03:00:00Z" if schema.get("format") == "date-time" else "Text"
    return {"string": text, "integer": 1, "number": 0.5, "boolean": True}[schema["type"]]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("smallJob", ["Name", "Succeeded", "Reason", "Workers", "Step", "Age"]),
        ("smallService", ["Name", "Ready", "Feasible", "Variant", "Hardware", "Replicas", "URL", "Age"]),
    ],
)
def test_columns_of_kubectl_get(client: httpx.Client, namespace: str, name: str, columns: list[str]) -> None:
    create(client, base(name), namespace=namespace).raise_for_status()
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = client.get(collection(base(name)["kind"], namespace), headers=accept).raise_for_status().json()
    assert [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0] == columns
    assert len(table["rows"]) == 1


def _status() -> Object:
    return {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": "Succeeded",
                "status": "Unknown",
                "reason": "Training",
                "message": "step 5 of 10",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-11-24T03:00:00Z",
            }
        ],
        "workers": {"ready": 1, "selector": "a=b"},
        "progress": {"step": 5, "totalSteps": 10, "loss": 0.5},
    }
