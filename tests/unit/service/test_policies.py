"""What serves, and what status says of it: change of the world -> decision, conditions."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.cycleservice_status import CycleServiceStatus
from cycleops.api.reasons import Reason
from cycleops.controller.apply import Problem
from cycleops.service.evidence import find_evidence
from cycleops.service.histograms import Measured, Quantiles
from cycleops.service.observation import Measurement, ServiceObservation
from cycleops.service.policies import decide
from cycleops.service.rollout import Pod
from cycleops.service.status import new_status
from tests.unit.service.make import (
    NOTHING_FOUND,
    NOW,
    OWNER,
    deployed,
    deployment,
    found,
    observation,
    plan,
    serving,
    sources,
    spec,
)

WAITING = find_evidence(sources(job=None))
PINNED: dict[str, Any] = {"variant": "int8", "hardware": "cpu-small", "batchSize": 4, "replicas": 2}


def recommend() -> CycleServiceSpec:
    return spec(planning={"mode": "Recommend"})


def conditions(of: ServiceObservation, problems: tuple[Problem, ...] = ()) -> dict[str, tuple[str, str]]:
    status = new_status(of, decide(of), problems)
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def message(of: ServiceObservation, condition: str, problems: tuple[Problem, ...] = ()) -> str:
    status = new_status(of, decide(of), problems)
    return str(next(c["message"] for c in status["conditions"] if c["type"] == condition))


def test_a_plan_is_deployed() -> None:
    decision = decide(observation())
    assert decision.deploy == deployed()
    assert decision.plan == plan(time=NOW)


def test_nothing_is_deployed_before_the_evidence_is_there() -> None:
    waiting = observation(evidence=WAITING, outcome=None)
    assert decide(waiting).deploy is None
    assert conditions(waiting) == {
        "ModelReady": ("False", "JobNotFound"),
        "Feasible": ("Unknown", "Waiting"),
        "PlanCurrent": ("False", "NoPlan"),
        "Ready": ("False", "NoPlan"),
        "BudgetMet": ("Unknown", "NotMeasured"),
        "ProfileCurrent": ("Unknown", "NotMeasured"),
        "Progressing": ("False", "AsExpected"),
        "Stalled": ("False", "AsExpected"),
        "Remeasuring": ("False", "NothingStale"),
    }


TIGHTER = spec(budget={"latency": {"milliseconds": 1}})


@pytest.mark.parametrize(
    "changes", [{"outcome": NOTHING_FOUND, "spec": TIGHTER}, {"evidence": WAITING, "outcome": None}]
)
def test_the_old_plan_serves_on(changes: dict[str, Any]) -> None:
    old = deployed(variant="fp32")
    of = observation(deployed=old, children=serving(), **changes)
    assert decide(of).deploy == old
    assert old.budget_milliseconds == 4 * 80  # by which it goes on to shed, whatever the new budget says
    assert conditions(of)["Ready"] == ("True", "OldPlanServes")
    assert conditions(of)["PlanCurrent"] == ("False", "NoPlan")


def test_an_infeasible_budget_says_what_would_do_and_its_price() -> None:
    of = observation(outcome=NOTHING_FOUND)
    assert conditions(of)["Feasible"] == ("False", "LatencyInfeasible")
    assert "12 ms would do, for 0.04 per hour" in message(of, "Feasible")
    status = new_status(of, decide(of), ())
    assert status["nearestFeasible"] == [
        {"dimension": "latency", "value": 12.0, "costPerHour": 0.04, "message": "12 ms would do"}
    ]
    assert "plan" not in status


def test_recommend_shows_the_plan_and_changes_nothing() -> None:
    fresh = observation(spec=recommend())
    assert decide(fresh).deploy is None
    assert new_status(fresh, decide(fresh), ())["plan"]["variant"] == "int8"
    assert conditions(fresh)["PlanCurrent"] == ("False", "Recommended")
    running = observation(spec=recommend(), deployed=deployed(variant="fp32"), children=serving())
    assert decide(running).deploy == deployed(variant="fp32")
    assert conditions(running)["Ready"][0] == "True"


def test_a_pinned_plan_serves_even_when_it_misses_the_budget() -> None:
    outcome = found(feasible=False, reason=Reason.PINNED_INFEASIBLE)
    of = observation(spec=spec(planning={"mode": "Pinned", "pinned": PINNED}), outcome=outcome, children=serving())
    assert decide(of).deploy == deployed(budget_milliseconds=800.0)  # it answers late rather than never
    assert conditions(of)["Feasible"] == ("False", "PinnedInfeasible")
    assert conditions(of)["Ready"] == ("True", "ReplicasReady")


@pytest.mark.parametrize(
    ("children", "ready", "current", "progressing"),
    [
        ({}, ("False", "ReplicasUnavailable"), ("False", "PlanPending"), "True"),
        (serving(servers=1), ("False", "ReplicasUnavailable"), ("False", "PlanPending"), "True"),
        (serving(), ("True", "ReplicasReady"), ("True", "PlanApplied"), "False"),
        (
            deployment("supersense-server", wanted=2, available=2)
            | deployment("supersense-balancer", wanted=2, available=0),
            ("False", "BalancerUnavailable"),
            ("True", "PlanApplied"),
            "True",
        ),
        (
            deployment("supersense-server", wanted=2, available=2, updatedReplicas=1, replicas=3)
            | deployment("supersense-balancer", wanted=2, available=2),
            ("True", "ReplicasReady"),
            ("False", "PlanPending"),
            "True",
        ),
    ],
)
def test_readiness_follows_the_pods(
    children: dict[Any, Any], ready: tuple[str, str], current: tuple[str, str], progressing: str
) -> None:
    found_conditions = conditions(observation(children=children, deployed=deployed()))
    assert found_conditions["Ready"] == ready
    assert found_conditions["PlanCurrent"] == current
    assert found_conditions["Progressing"][0] == progressing


def test_what_stands_in_the_way_is_named() -> None:
    taken = Problem("Service", "supersense", "NameTaken", "Service supersense exists already and has no owner")
    assert conditions(observation(), (taken,))["Stalled"] == ("True", "NameTaken")
    refused = Problem("Deployment", "supersense-server", "Rejected", "quota exceeded")
    assert message(observation(), "Stalled", (refused,)) == "quota exceeded"
    broken = Pod("u", "supersense-server-1", "", "server", False, "pod x: no such image", Reason.IMAGE_PULL_FAILED)
    assert conditions(observation(pods=(broken,)))["Stalled"] == ("True", "ImagePullFailed")
    assert conditions(observation(missing_claim="models"))["Stalled"] == ("True", "ClaimNotFound")
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    of = observation(children=deployment("supersense-server", wanted=2, available=0, conditions=[late]))
    assert conditions(of)["Stalled"] == ("True", "RolloutStalled")


def measured(
    *, p99: float, queue: float = 1.0, compute: float = 9.0, pre: float = 0.4, requests: int = 500
) -> Measured:
    tails = {"total": p99, "queue": queue, "pre": pre, "compute": compute, "post": 0.1}
    return Measured(
        terms={term: Quantiles(p50=tail / 2, p99=tail, budgeted=tail) for term, tail in tails.items()},
        requests=requests,
        requests_per_second=20.04,
        errors=0,
        hits=requests // 4,
        window_seconds=60.0,
        ended_at=NOW.timestamp(),
    )


@pytest.mark.parametrize(
    ("measurement", "expected", "words"),
    [
        (Measurement(), ("Unknown", "NotMeasured"), "no request was measured yet"),
        (Measurement(measured(p99=60)), ("True", "BudgetMet"), "p99 of T is 60.0 ms, the budget is 80 ms"),
        (Measurement(measured(p99=95, queue=70)), ("False", "BudgetBroken"), "queue is the furthest above"),
        (Measurement(measured(p99=95, compute=90)), ("False", "BudgetBroken"), "compute is the furthest above"),
        (Measurement(measured(p99=60, pre=12)), ("False", "BudgetBroken"), "p99 of pre is 12.0 ms, its cap is 10 ms"),
        (Measurement(measured(p99=95, requests=8)), ("Unknown", "NotMeasured"), "8 requests in 60 s are too few"),
        (Measurement(measured(p99=60), stale="TimeoutError"), ("Unknown", "MeasurementStale"), "TimeoutError"),
    ],
)
def test_the_budget_is_judged_and_the_term_that_broke_it_named(
    measurement: Measurement, expected: tuple[str, str], words: str
) -> None:
    of = observation(deployed=deployed(), children=serving(), measurement=measurement)
    assert conditions(of)["BudgetMet"] == expected
    assert words in message(of, "BudgetMet")


def test_status_shows_what_was_measured_and_planned() -> None:
    of = observation(deployed=deployed(), children=serving(), measurement=Measurement(measured(p99=60)))
    status = new_status(of, decide(of), ())
    assert status["measured"] == {
        "p50Ms": 30.0,
        "p99Ms": 60.0,
        "latencyMs": 60.0,
        "preMs": 0.2,
        "computeMs": 4.5,
        "postMs": 0.05,
        "queueMs": 0.5,
        "requests": 500,
        "requestsPerSecond": 20.04,
        "errors": 0,
        "cacheHitRatio": 0.25,
        "windowSeconds": 60.0,
        "time": "2026-11-24T12:00:00Z",
    }
    assert status["url"] == "http://supersense.demo.svc"
    assert status["model"]["digest"].startswith("sha256:a1")
    assert status["rejected"][0]["reason"] == "Costlier"
    assert status["profiles"] == ["supersense-fp32-cpu-small-s1", "supersense-int8-cpu-small-s1"]
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)


@pytest.mark.parametrize(
    "of",
    [
        observation(),
        observation(evidence=WAITING, outcome=None),
        observation(outcome=NOTHING_FOUND, deployed=deployed(), children=serving()),
        observation(deployed=deployed(), children=serving(), measurement=Measurement(measured(p99=60))),
    ],
)
def test_a_second_pass_gives_the_same_status(of: ServiceObservation) -> None:
    first = new_status(of, decide(of), ())
    later = replace(
        of,
        status=CycleServiceStatus.model_validate(first),
        owner=replace(OWNER, status=first),
        now=NOW + timedelta(hours=1),
    )
    assert new_status(later, decide(later), ()) == first


def test_after_a_restart_the_last_judgement_stands_until_the_spec_changes() -> None:
    of = observation(deployed=deployed(), children=serving(), measurement=Measurement(measured(p99=95, queue=70)))
    first = new_status(of, decide(of), ())
    after = replace(of, status=CycleServiceStatus.model_validate(first), measurement=Measurement())
    assert new_status(after, decide(after), ()) == first
    changed = replace(after, owner=replace(OWNER, generation=4))
    assert conditions(changed)["BudgetMet"] == ("Unknown", "NotMeasured")
