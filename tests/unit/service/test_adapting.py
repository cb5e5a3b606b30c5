"""Adaptation of a service: what is remembered, what a change takes back, and what may be chosen."""

import math
from dataclasses import replace
from typing import Any

import pytest

from cycleops.api.cycleservice_status import Adaptation, CycleServiceStatus
from cycleops.planner.adaptation import AdaptSettings, Reason, Target
from cycleops.planner.adaptation.correction import Correction
from cycleops.planner.adaptation.hits import BIN_SECONDS, HitBin, HitEvidence
from cycleops.service.adapting import Service, begun, current, measurement, resumed, step
from cycleops.service.corrections import Corrections, corrections_of
from cycleops.service.evidence import find_evidence
from cycleops.service.interval import Interval
from cycleops.service.memory import MAXIMUM_BYTES, Memory, load
from cycleops.service.observation import Outcome, Served
from cycleops.service.rollout import Rollout
from cycleops.service.scaling import Scaling, served_of, service_of
from tests.unit.planner.adaptation.tables import table
from tests.unit.service.make import NOW, deployed, found, hardware, plan, sources, spec

TABLE = table()  # a replica carries 20 requests/s, 16 of them within the budget
TARGET = Target(
    percentile=99.0, minimum_replicas=1, maximum_replicas=10, startup_seconds=10.0, declared_per_second=150.0
)
SERVICE = Service(
    served="int8", hardware="cpu-small", profile="p-int8", budget="p99 80 ms", planned=2, replicas=2, rolling=False,
    caches=True, target=TARGET, startup_seconds=None, settings=AdaptSettings(hold_seconds=60.0),
)  # fmt: skip
WARM = HitEvidence(
    bins=tuple(HitBin(began=1e9 - i * BIN_SECONDS, requests=18_000, hits=9_000) for i in range(9, 0, -1)),
    counted=0.5,
    expected=0.5,
)


def interval(at: float, *, rate: float, ready: int = 2, **changes: Any) -> Interval:
    """15 s, computed as the table expects."""
    arrivals = round(rate * 15)
    computed = arrivals - changes.get("hits", 0)
    expected = TABLE.expected_compute_seconds(replicas=ready, rate_per_second=computed / 15)
    content: dict[str, Any] = {
        "ended_at": at, "seconds": 15.0, "arrivals": arrivals, "answered": arrivals, "hits": 0, "late": 0,
        "refused": 0, "computed": computed, "compute_seconds": expected if computed else None, "ready_servers": ready,
    }  # fmt: skip
    return Interval(**{**content, **changes})


def fed(memory: Memory, rate: float, *, scrapes: int = 12, at: float = 1e9, service: Service = SERVICE, **changes: Any):  # type: ignore[no-untyped-def]
    """After so many scrapes of this rate."""
    for i in range(1, scrapes + 1):
        taken = step(memory, interval(at + 15 * i, rate=rate, **changes), now=at + 15 * i, service=service, table=TABLE)
        memory = taken.memory
    return taken


def test_a_rising_rate_gets_more_and_a_quiet_hour_fewer_after_the_hold() -> None:
    more = fed(begun(SERVICE), 60.0, scrapes=3)
    assert more.decision.replicas >= 4
    assert "requests/s" in more.decision.message
    held = fed(more.memory, 10.0, scrapes=3, at=1e9 + 45)
    assert held.decision.replicas >= 4  # what was needed within the last minute
    fewer = fed(held.memory, 10.0, scrapes=20, at=1e9 + 90)
    assert fewer.decision.replicas == 1


def test_no_news_takes_nothing_away_and_says_so() -> None:
    more = fed(begun(SERVICE), 60.0)
    at = 1e9 + 15 * 12
    later = step(more.memory, interval(at, rate=60.0), now=at + 600, service=SERVICE, table=TABLE)
    assert later.decision.reason is Reason.STALE
    assert later.decision.replicas == more.decision.replicas
    assert step(begun(SERVICE), None, now=at, service=SERVICE, table=TABLE).decision.replicas == 2


def test_what_was_found_of_the_profile_stays_while_there_is_no_news() -> None:
    slow = fed(begun(SERVICE), 20.0, compute_seconds=0.07)
    blind = step(slow.memory, None, now=1e9 + 1000, service=SERVICE, table=TABLE)
    assert blind.decision.stale
    assert blind.decision.profile_stale == slow.decision.profile_stale
    assert "compute takes" in blind.decision.profile_stale[0]


def test_the_same_interval_is_taken_in_once() -> None:
    one = fed(begun(SERVICE), 30.0)
    at = 1e9 + 15 * 12
    again = step(one.memory, interval(at, rate=30.0), now=at, service=SERVICE, table=TABLE)
    assert again == one


def test_hits_are_taken_off_only_as_far_as_the_evidence_goes() -> None:
    seen = interval(0.0, rate=100.0, hits=1200)
    assert measurement(seen, counted=0.0, rolling=False).arrivals == 1500
    assert measurement(seen, counted=0.5, rolling=False).arrivals == 750
    assert measurement(replace(seen, hits=300), counted=0.5, rolling=False).arrivals == 1200


def test_a_cache_that_goes_cold_is_more_to_compute_at_once() -> None:
    warm = begun(SERVICE).model_copy(update={"hits": WARM})
    few = fed(warm, 60.0, hits=450)
    cold = fed(few.memory, 60.0, scrapes=2, at=1e9 + 180, hits=0)
    assert few.decision.replicas < cold.decision.replicas
    # The percentile of what is computed is that which the whole percentile implies: 2 % of half are 1 % of all.
    assert few.decision.replicas == fed(begun(SERVICE), 30.0).decision.replicas


@pytest.mark.parametrize("change", [{"rolling": True}, {"caches": False}, {"served": "other"}])
def test_a_rollout_and_another_plan_take_the_evidence_of_the_cache_away(change: dict[str, Any]) -> None:
    warm = fed(begun(SERVICE).model_copy(update={"hits": WARM}), 20.0).memory
    assert current(warm, replace(SERVICE, **change), TABLE).hits == HitEvidence()


def test_another_plan_begins_with_what_the_rate_needs_on_cold_caches() -> None:
    warm = fed(begun(SERVICE).model_copy(update={"hits": WARM}), 60.0, hits=450).memory
    other = current(warm, replace(SERVICE, served="fp32", replicas=None, planned=1), TABLE)
    needed = TABLE.replicas_for(rate_per_second=60.0, goal=0.99)
    assert other.state.replicas == needed
    assert other.state.rate == warm.state.rate
    assert other.state.correction.deviation == Correction().deviation


def test_another_variant_on_the_same_machines_is_as_slow_until_it_was_measured() -> None:
    slow = fed(begun(SERVICE), 20.0, compute_seconds=0.07).memory
    assert slow.planned_slowness > 1.25
    there = current(slow, replace(SERVICE, served="fp32", profile="p-fp32"), TABLE)
    assert there.planned_slowness == slow.planned_slowness
    assert there.state.correction.slowness == pytest.approx(slow.planned_slowness)
    away = current(slow, replace(SERVICE, served="fp32", profile="p-fp32", hardware="cpu-large"), TABLE)
    assert away.planned_slowness == 1.0
    measured = fed(there, 20.0, at=2e9, service=replace(SERVICE, served="fp32", profile="p-fp32")).memory
    assert measured.slowness == {"p-int8": slow.planned_slowness, "p-fp32": 1.0}
    # So the plan does not go back and forth: int8 is known to be slow, fp32 to be as profiled, a third is not known.
    found = corrections_of(measured, spec().traffic)
    assert found.slowness_of("p-int8", "cpu-small") == slow.planned_slowness
    assert found.slowness_of("p-fp32", "cpu-small") == 1.0
    assert found.slowness_of("p-bf16", "cpu-small") == slow.planned_slowness
    assert found.slowness_of("p-bf16", "cpu-large") == 1.0


def test_a_profile_that_holds_corrects_nothing() -> None:
    assert corrections_of(fed(begun(SERVICE), 20.0).memory, spec().traffic) == Corrections()
    assert corrections_of(None, spec().traffic) == Corrections()


def test_compute_of_two_plans_at_once_says_nothing() -> None:
    rolling = replace(SERVICE, rolling=True)
    assert fed(begun(SERVICE), 20.0, compute_seconds=0.2, service=rolling).memory.state.correction == Correction()


def test_another_budget_begins_a_new_account() -> None:
    late = fed(begun(SERVICE), 20.0, late=50).memory
    assert late.state.account.late > 0
    assert current(late, replace(SERVICE, budget="p95 80 ms"), TABLE).state.account.late == 0


def test_a_server_that_counts_in_other_buckets_begins_a_new_reference() -> None:
    memory = fed(begun(SERVICE), 60.0, lengths=(1, 2, 3), labels=(5,) * 64).memory
    other = fed(memory, 60.0, at=2e9, lengths=(1, 2), labels=(5,) * 64).memory
    assert len(other.state.watch.lengths.window) == 2
    assert other.state.watch.labels.reference == memory.state.watch.labels.reference


# The copy in status


def test_a_restart_goes_on_from_the_copy() -> None:
    memory = fed(begun(SERVICE).model_copy(update={"hits": WARM}), 60.0, lengths=(1, 2), hits=450).memory
    text = memory.dump()
    assert len(text) < MAXIMUM_BYTES / 4
    loaded = load(text)
    assert loaded is not None
    assert loaded.hits.counted == memory.hits.counted
    assert loaded.state.account.allowed == pytest.approx(memory.state.account.allowed, rel=1e-4)
    assert loaded.state.measured_at == memory.state.measured_at
    assert load("") is load('{"served": 1}') is None
    # How many there are stands on the Deployment.
    assert resumed(loaded, replace(SERVICE, replicas=5)).state.replicas == 5
    assert resumed(loaded, replace(SERVICE, replicas=5, served="other")).state.replicas == loaded.state.replicas


def test_the_copy_is_bounded_whatever_was_seen() -> None:
    memory = begun(SERVICE)
    for i in range(3 * 5760):  # three days
        at = 1e9 + 15 * i
        rate = 60 + 40 * math.sin(i / 900)
        seen = interval(at, rate=rate, lengths=tuple(range(14)), labels=tuple(range(64)), hits=round(7 * rate))
        memory = step(memory, seen, now=at, service=SERVICE, table=TABLE).memory
    assert len(memory.hits.bins) <= 13
    assert 1000 < len(memory.dump()) < MAXIMUM_BYTES
    assert load(memory.dump()) is not None
    assert at - memory.hits.bins[0].began <= 14 * BIN_SECONDS


def test_scaling_takes_the_copy_once_and_forgets_the_gone() -> None:
    memory = fed(begun(SERVICE), 60.0).memory
    said = Adaptation(
        replicas=4, fewest=1, most=10, reason="RateGrows", message="", requests_per_second=60, slowness=1,
        slowness_low=1, slowness_high=1, time=NOW, memory=memory.dump(),
    )  # fmt: skip
    scaling = Scaling()

    def known(status: CycleServiceStatus) -> Memory | None:
        return scaling.memory("uid", spec=spec(), status=status, evidence=find_evidence(sources()))

    assert known(CycleServiceStatus()) is None
    assert known(CycleServiceStatus(adaptation=said)) is not None
    first = scaling.adapted("uid", interval=None, now=2e9, service=replace(SERVICE, replicas=7), table=TABLE)
    assert (first.replicas, first.decision.stale) == (7, True)
    scaling.keep_only(set())
    assert known(CycleServiceStatus()) is None


# What a step is asked


def served(**changes: Any) -> Served | None:
    content: dict[str, Any] = {
        "spec": spec(), "evidence": find_evidence(sources()), "outcome": found(), "deployed": deployed(),
    }  # fmt: skip
    return served_of(**{**content, **changes})


def asked(*, outcome: Outcome | None = None, there: Any = None, counted: float = 0.0, **changes: Any) -> Service:
    service, evidence = spec(**changes), find_evidence(sources())
    outcome, there = outcome or found(), there or deployed()
    what = served_of(spec=service, evidence=evidence, outcome=outcome, deployed=there)
    assert what is not None
    return service_of(
        spec=service,
        status=CycleServiceStatus(),
        evidence=evidence,
        outcome=outcome,
        classes={"cpu-small": hardware(maximumReplicas=5)},
        deployed=there,
        rollout=Rollout(wanted=2, ready=2, available=2, updated=2, there=2, seen=True),
        served=what,
        table=TABLE,
        counted=counted,
        startup_seconds=None,
    )


def test_what_serves_is_the_plan_or_else_what_is_deployed() -> None:
    assert served() == served(outcome=None)
    other = found(plan=plan(variant="fp32"))
    assert (served(outcome=other) or pytest.fail()).variant == "fp32"
    assert (served(outcome=other, spec=spec(planning={"mode": "Recommend"})) or pytest.fail()).variant == "int8"
    assert served(outcome=None, deployed=None) is None
    assert served(outcome=found(plan=plan(variant="never measured"))) is None


def traffic(basis: str, rate: int = 20) -> dict[str, Any]:
    return {"requestsPerSecond": rate, "basis": basis}


@pytest.mark.parametrize(
    ("basis", "planned_rate", "fewest"),
    [
        ("Declared", 20.0, 3),  # never below the plan
        ("Maximum", 20.0, 3),
        ("Maximum", 60.0, 2),  # the plan is for more than was declared: 2 carry what was
        ("Measured", 60.0, 1),
    ],
)
def test_the_basis_says_how_few_there_may_be(basis: str, planned_rate: float, fewest: int) -> None:
    outcome = found(plan=plan(replicas=3), requests_per_second=planned_rate)
    service = asked(outcome=outcome, traffic=traffic(basis))
    assert (service.target.minimum_replicas, service.target.maximum_replicas) == (fewest, 5)  # the class's most


def test_a_pinned_plan_never_moves_and_a_recommended_one_is_not_ours() -> None:
    pinned = {"variant": "int8", "hardware": "cpu-small", "batchSize": 4, "delayMilliseconds": 2, "replicas": 2}
    fixed = asked(planning={"mode": "Pinned", "pinned": pinned})
    assert (fixed.target.minimum_replicas, fixed.target.maximum_replicas) == (2, 2)
    assert asked(planning={"mode": "Recommend"}).replicas is None
    assert asked().replicas == 2


def test_pods_of_another_plan_are_rolling() -> None:
    assert not asked().rolling
    assert asked(there=deployed(batch_size=8)).rolling


def test_capacity_for_the_declared_rate_counts_hits_as_far_as_the_evidence_goes() -> None:
    outcome = found(plan=plan(replicas=5), requests_per_second=120.0)
    full = asked(outcome=outcome, traffic=traffic("Maximum", 60))
    half = asked(outcome=outcome, traffic=traffic("Maximum", 60), counted=0.5)
    assert half.target.minimum_replicas < full.target.minimum_replicas
