"""The real planner behind a service: what it is asked, and how its answer reads in the API."""

import asyncio
from typing import Any

from cycleops.api.reasons import Reason
from cycleops.service.evidence import find_evidence
from cycleops.service.observation import Outcome
from cycleops.service.planning import Planning, inputs_hash
from tests.unit.service.make import hardware, profile, sources, spec

PROFILES = (profile("fp32", compute_ms=12.0, f1=0.74), profile("int8", compute_ms=4.0, f1=0.735))


async def outcome(by: Planning | None = None, *, rate: float = 20.0, **changes: Any) -> Outcome:
    service = spec(**changes)
    evidence = find_evidence(sources(spec=service, profiles=PROFILES))
    classes = {"cpu-small": hardware()}
    return await (by or Planning()).outcome(
        "uid", spec=service, evidence=evidence, classes=classes, requests_per_second=rate
    )


def budget(**changes: Any) -> dict[str, Any]:
    return {"latency": {"percentile": 99, "milliseconds": 80}, **changes}


async def test_the_example_has_a_plan_with_its_reasons() -> None:
    found = await outcome()
    assert (found.feasible, found.reason) == (True, Reason.PLAN_FOUND)
    assert found.plan is not None
    assert found.plan.predicted is not None
    assert found.plan.predicted.latency_ms is not None
    assert 0 < found.plan.predicted.latency_ms <= 80
    assert found.plan.profile == f"supersense-{found.plan.variant}-cpu-small-s1"
    assert found.plan.reasons
    assert found.rejected
    assert found.baseline_accuracy == 0.74
    assert found.batch_invariant
    assert found.tails_ms.keys() == {"queue", "pre", "compute", "post"}


async def test_an_impossible_budget_names_the_nearest_and_its_price() -> None:
    found = await outcome(budget=budget(latency={"percentile": 99, "milliseconds": 1}))
    assert (found.feasible, found.plan, found.reason) == (False, None, Reason.LATENCY_INFEASIBLE)
    latency = next(n for n in found.nearest if n.dimension == "latency")
    assert latency.value > 1
    assert latency.cost_per_hour is not None
    assert latency.cost_per_hour > 0
    assert latency.message in found.message


async def test_an_accuracy_floor_that_no_variant_reaches() -> None:
    found = await outcome(budget=budget(accuracy={"metric": "f1Macro", "minimum": "0.99"}))
    assert (found.feasible, found.reason) == (False, Reason.ACCURACY_INFEASIBLE)
    assert {r.reason for r in found.rejected} == {"BelowAccuracyFloor"}
    assert "0.74" in found.message


async def test_a_variant_below_the_largest_drop_is_not_served() -> None:
    floor = {"metric": "f1Macro", "maximumDrop": "0.001", "baseline": "fp32"}
    found = await outcome(budget=budget(accuracy=floor))
    assert found.plan is not None
    assert found.plan.variant == "fp32"


async def test_a_pinned_plan_is_judged_and_one_without_evidence_refused() -> None:
    pinned = {"variant": "int8", "hardware": "cpu-small", "batchSize": 2, "replicas": 1}
    found = await outcome(planning={"mode": "Pinned", "pinned": pinned}, budget=budget())
    assert found.plan is not None
    assert (found.plan.variant, found.plan.batch_size, found.plan.replicas) == ("int8", 2, 1)
    tight = await outcome(
        planning={"mode": "Pinned", "pinned": pinned}, budget=budget(latency={"percentile": 99, "milliseconds": 1})
    )
    assert (tight.feasible, tight.reason) == (False, Reason.PINNED_INFEASIBLE)
    assert tight.plan is not None
    unknown = await outcome(planning={"mode": "Pinned", "pinned": {**pinned, "variant": "int4"}})
    assert (unknown.feasible, unknown.plan, unknown.reason) == (False, None, Reason.VARIANT_NOT_FOUND)
    assert "there is fp32 on cpu-small, int8 on cpu-small" in unknown.message


async def test_more_traffic_needs_more_replicas() -> None:
    few, many = await outcome(rate=5.0), await outcome(rate=400.0, replicas={"minimum": 1, "maximum": 50})
    assert few.plan is not None
    assert many.plan is not None
    assert few.plan.replicas < many.plan.replicas
    assert many.requests_per_second == 400.0


async def test_the_same_inputs_are_planned_once_and_give_the_same_plan() -> None:
    planning = Planning()
    first = await outcome(planning)
    assert await outcome(planning) is first
    assert await outcome() == first  # also after a restart
    assert await outcome(planning, rate=21.0) is not first


async def test_a_pass_that_is_cut_off_finds_the_answer_later() -> None:
    planning = Planning()
    task = asyncio.create_task(outcome(planning))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    running = planning._answers["uid", False][1]
    assert not running.cancelled()
    assert await outcome(planning) is await running


def test_what_does_not_change_the_plan_does_not_plan_again() -> None:
    evidence, classes = find_evidence(sources()), {"cpu-small": hardware()}

    def of(**changes: Any) -> str:
        return inputs_hash(spec=spec(**changes), evidence=evidence, classes=classes, requests_per_second=20)

    assert of() == of(cache=None) == of(images={"server": "mine:1"})
    assert of() != of(replicas={"minimum": 2, "maximum": 6})
