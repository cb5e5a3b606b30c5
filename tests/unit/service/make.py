"""Objects of a service's world, as the examples of the repository describe it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from cycle_wire.profile import Histogram, MetricValue, Pace, ProfileRow
from cycleops.api.cyclejob import CycleJob
from cycleops.api.cycleprofile import CycleProfile, CycleProfileSpec
from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.cycleservice_status import CycleServiceStatus, NearestFeasible, Plan, Predicted, Rejected, ServedModel
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.hashes import hardware_class_hash
from cycleops.api.reasons import Reason
from cycleops.controller.kinds import DEPLOYMENT
from cycleops.controller.reconcile import Owner
from cycleops.controller.store import Facts, Store
from cycleops.service.deployed import Deployed, of_plan
from cycleops.service.evidence import Sources, find_evidence
from cycleops.service.observation import Measurement, Outcome, ServiceObservation
from cycleops.service.settings import ServiceSettings

EXAMPLES = Path(__file__).parents[3] / "examples"
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a1" * 32
MODEL = ServedModel(uri=f"pvc://models/supersense/sha256-{'a1' * 32}", digest=DIGEST)
OWNER = Owner(namespace="demo", name="supersense", uid="5a6b", generation=3, status={})
SETTINGS = ServiceSettings(
    server_image="cycleops/server:1",
    balancer_image="cycleops/balancer:1",
    cache_image="cycleops/cache:1",
    report_url="https://cycleops-report.cycleops-system.svc:8443/v1/report",
)


def spec(**changes: Any) -> CycleServiceSpec:
    """The example's spec; ``changes`` replace whole fields, in the API's own form."""
    example = yaml.safe_load((EXAMPLES / "cycleservice.yaml").read_text())["spec"]
    return CycleServiceSpec.model_validate({**example, **changes})


def hardware(**changes: Any) -> HardwareClassSpec:
    example = next(yaml.safe_load_all((EXAMPLES / "hardwareclass.yaml").read_text()))["spec"]
    return HardwareClassSpec.model_validate({**example, **changes})


def job(*conditions: tuple[str, str, str, str], model: ServedModel | None = None) -> CycleJob:
    """The example's job with conditions of (type, status, reason, message)."""
    example = yaml.safe_load((EXAMPLES / "cyclejob.yaml").read_text())
    names = ("type", "status", "reason", "message")
    listed = [{**dict(zip(names, c, strict=True)), "lastTransitionTime": NOW.isoformat()} for c in conditions]
    status = {"conditions": listed, **({"model": model.to_dict()} if model else {})}
    return CycleJob.model_validate({**example, "status": status})


def finished_job() -> CycleJob:
    return job(("Succeeded", "True", "Finished", ""), model=MODEL)


def profile(
    variant: str,
    *,
    compute_ms: float = 8.0,
    f1: float = 0.74,
    image: str = SETTINGS.server_image,
    lengths: Sequence[int] = (16, 32, 64),
    **changes: Any,
) -> CycleProfile:
    """A plausible measurement on cpu-small: compute grows with the batch, terms spread by 5 %."""

    def times(middle_ms: float) -> Histogram:
        return Histogram.of(middle_ms * 1e-3 * (1 + 0.05 * (i - 20) / 20) for i in range(41))

    rows = [
        ProfileRow(
            batch_size=batch,
            sequence_length=length,
            pace=pace,
            pre=times(0.4),
            compute=times(compute_ms * (0.3 + 0.7 * batch) * (0.5 + 0.5 * length / 32)),
            post=times(0.1),
        )
        for batch in (1, 2, 4, 8)
        for length in lengths
        for pace in Pace
    ]
    content = {
        "model_digest": DIGEST,
        "variant": variant,
        "hardware_class": "cpu-small",
        "hardware_class_hash": hardware_class_hash(hardware()),
        "image": image,
        "server_settings_hash": "s1",
        "rows": rows,
        "overhead": times(1.5),
        "cache_hit": times(1.0),
        "metrics": [
            MetricValue(name="accuracy", value=f1 + 0.02, rows=3000),
            MetricValue(name="f1Macro", value=f1, rows=3000),
        ],
        "parameters": 22_000_000,
        "size_bytes": 90_000_000,
        "sparsity": 0.0,
        "memory_bytes": 500_000_000,
        "startup_seconds": 6.0,
        "batch_invariant": True,
        "neighbour_difference": 0.0,
        "threads": 1,
        "processor": "a CPU",
        "measured_at": NOW,
        "job": "supersense",
        "source": {
            "variant": {"name": variant},
            "data": "pvc://data/glosses/eval.jsonl",
            "evaluation": {"metrics": ["accuracy", "f1Macro"]},
        },
    }
    measured = CycleProfileSpec.model_validate({**content, **changes})
    name = f"supersense-{measured.variant}-{measured.hardware_class}-{measured.server_settings_hash}"
    return CycleProfile(
        api_version="cycleops.dev/v1alpha1", kind="CycleProfile", metadata={"name": name}, spec=measured
    )


def sources(**changes: Any) -> Sources:
    content: dict[str, Any] = {
        "spec": spec(),
        "pinned": None,
        "job": finished_job(),
        "profiles": (profile("fp32"), profile("int8", compute_ms=3.0, f1=0.735)),
        "classes": {"cpu-small": hardware()},
        "images": {"cpu-small": SETTINGS.server_image},
    }
    return Sources(**{**content, **changes})


def plan(**changes: Any) -> Plan:
    predicted = Predicted(p50_ms=12.0, p99_ms=40.0, pre_ms=0.4, compute_ms=8.0, post_ms=0.1, queue_ms=0.5)
    content: dict[str, Any] = {
        "variant": "int8",
        "hardware": "cpu-small",
        "batch_size": 4,
        "delay_milliseconds": 2.0,
        "replicas": 2,
        "cost_per_hour": 0.04,
        "predicted": predicted,
    }
    return Plan(**{**content, **changes})


def found(**changes: Any) -> Outcome:
    """The planner found a plan."""
    content: dict[str, Any] = {
        "feasible": True,
        "reason": Reason.PLAN_FOUND,
        "message": "int8 meets the budget",
        "plan": plan(),
        "requests_per_second": 20.0,
        "batch_invariant": True,
        "tails_ms": {"queue": 10.0, "pre": 0.6, "compute": 20.0, "post": 0.2},
        "rejected": (Rejected(variant="fp32", hardware="cpu-small", reason="Costlier", message="twice the price"),),
    }
    return Outcome(**{**content, **changes})


NOTHING_FOUND = Outcome(
    feasible=False,
    reason=Reason.LATENCY_INFEASIBLE,
    message="no candidate answers within 1 ms. 12 ms would do, for 0.04 per hour",
    nearest=(NearestFeasible(dimension="latency", value=12.0, cost_per_hour=0.04, message="12 ms would do"),),
)


def deployed(**changes: Any) -> Deployed:
    return of_plan(
        plan(),
        model=MODEL,
        batch_invariant=True,
        requests_per_second=20.0,
        budget_milliseconds=320.0,
        target_milliseconds=80.0,
    ).model_copy(update=changes)


def deployment(
    name: str, *, wanted: int, available: int, annotations: dict[str, str] | None = None, **status: Any
) -> dict[tuple[str, str], Facts]:
    """A Deployment as the store holds it."""
    counts = dict.fromkeys(("replicas", "updatedReplicas"), wanted)
    ready = dict.fromkeys(("readyReplicas", "availableReplicas"), available)
    metadata = {"name": name, "namespace": "demo", "uid": name, "resourceVersion": "1", "generation": 1}
    body = {
        "metadata": {**metadata, "annotations": annotations or {}},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 1, **counts, **ready, **status},
    }
    store = Store()
    store.put(DEPLOYMENT, json.loads(json.dumps(body)))
    facts = store.get(DEPLOYMENT, name=name, namespace="demo")
    assert facts is not None
    return {("Deployment", name): facts}


def serving(*, servers: int = 2) -> dict[tuple[str, str], Facts]:
    """Both Deployments, with ``servers`` of 2 server pods ready."""
    return deployment("supersense-server", wanted=2, available=servers) | deployment(
        "supersense-balancer", wanted=2, available=2
    )


def observation(**changes: Any) -> ServiceObservation:
    base = ServiceObservation(
        owner=OWNER,
        children={},
        now=NOW,
        spec=spec(),
        status=CycleServiceStatus(),
        evidence=find_evidence(sources()),
        outcome=found(),
        classes={"cpu-small": hardware()},
        deployed=None,
        pods=(),
        missing_claim="",
        measurement=Measurement(),
    )
    return replace(base, **changes)
