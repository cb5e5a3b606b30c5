"""What status says of adaptation, when it is written, and what serves by it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cycleops.api.cycleservice_status import Adaptation, CycleServiceStatus
from cycleops.planner.adaptation import Decision, Reason, State
from cycleops.planner.adaptation.correction import Correction
from cycleops.planner.adaptation.hits import HitEvidence
from cycleops.service.memory import Memory
from cycleops.service.observation import Adapted, ServiceObservation
from cycleops.service.policies import decide
from cycleops.service.status import new_status
from tests.unit.service.make import NOTHING_FOUND, NOW, deployed, deployment, found, observation, plan, serving, spec

PINNED: dict[str, Any] = {"variant": "int8", "hardware": "cpu-small", "batchSize": 4, "replicas": 2}


def adapted(replicas: int = 5, *, reason: Reason = Reason.RATE_GROWS, **changes: Any) -> Adapted:
    """``changes``: of the decision, the slowness, or of the memory."""
    stale = changes.pop("profile_stale", ())
    correction = changes.pop("correction", Correction(variance=0.0004))
    state = State(replicas=replicas, measured_at=NOW.timestamp(), correction=correction)
    memory = Memory(
        served="int8",
        hardware="cpu-small",
        profile="p",
        budget="p99 80 ms",
        state=changes.pop("state", state),
        **changes,
    )
    decision = Decision(
        replicas=replicas, reason=reason, message=f"{replicas} replicas instead of 2: 57.7 requests/s now",
        needed=replicas, forecast_per_second=60.0, profile_stale=stale,
    )  # fmt: skip
    return Adapted(replicas=replicas, fewest=2, most=6, decision=decision, memory=memory)


def seen(of: Adapted | None, before: Adaptation | None = None, **changes: Any) -> ServiceObservation:
    content: dict[str, Any] = {
        "adapted": of,
        "status": CycleServiceStatus(adaptation=before),
        "children": serving(),
        "deployed": deployed(),
    }
    return observation(**{**content, **changes})


def status_of(of: ServiceObservation) -> CycleServiceStatus:
    return CycleServiceStatus.model_validate(new_status(of, decide(of), ()))


def condition(of: ServiceObservation, type: str) -> tuple[str, str, str]:
    found = next(c for c in status_of(of).conditions if c.type == type)
    return found.status.value, found.reason, found.message


def test_what_serves_has_the_adapted_number_and_status_says_why() -> None:
    of = seen(adapted(5))
    assert decide(of).deploy == deployed(replicas=5)
    said = status_of(of).adaptation
    assert said is not None
    assert (said.replicas, said.fewest, said.most, said.reason) == (5, 2, 6, "RateGrows")
    assert "57.7 requests/s" in said.message
    assert status_of(of).plan == plan(time=NOW)  # the plan stays what was planned


@pytest.mark.parametrize("planning", [{"mode": "Recommend"}, {"mode": "Pinned", "pinned": PINNED}])
def test_recommended_and_pinned_numbers_never_move(planning: dict[str, Any]) -> None:
    of = seen(adapted(5), spec=spec(planning=planning))
    deploy = decide(of).deploy
    assert deploy is not None
    assert deploy.replicas == 2
    said = status_of(of).adaptation
    assert said is not None
    assert said.message.startswith("planning.mode is Recommend, else: 5 replicas") == (planning["mode"] == "Recommend")


def test_an_old_plan_that_serves_on_is_adapted_too() -> None:
    of = seen(adapted(5), outcome=NOTHING_FOUND)
    assert decide(of).deploy == deployed(replicas=5)
    later = seen(None, status_of(of).adaptation, outcome=NOTHING_FOUND, deployed=deployed(replicas=5))
    shown = replace(later, status=later.status.model_copy(update={"plan": plan(time=NOW)}))
    assert decide(shown).plan == plan(time=NOW)


def test_a_service_that_gets_more_pods_stays_ready_and_its_plan_current() -> None:
    growing = deployment("supersense-server", wanted=5, available=2, replicas=5, updatedReplicas=5)
    of = seen(adapted(5), children={**serving(), **growing}, deployed=deployed(replicas=5))
    assert condition(of, "Ready")[:2] == ("True", "ReplicasReady")
    status, reason, message = condition(of, "PlanCurrent")
    assert (status, reason) == ("True", "PlanApplied")
    assert "2 replica(s); 5 as adapted" in message
    lost = deployment("supersense-server", wanted=5, available=1, replicas=5, updatedReplicas=5)
    fewer = replace(of, children={**serving(), **lost})
    assert condition(fewer, "Ready")[:2] == ("False", "ReplicasUnavailable")


# When it is written


def test_before_anything_was_measured_nothing_is_said() -> None:
    assert status_of(seen(adapted(2, state=State(replicas=2)))).adaptation is None
    assert status_of(seen(None)).adaptation is None


def test_numbers_that_move_by_themselves_write_nothing() -> None:
    before = status_of(seen(adapted(5))).adaptation
    moved = adapted(5, reason=Reason.HELD, correction=Correction(log_slowness=0.03, variance=0.0004), asked_at=2e9)
    of = seen(moved, before, now=NOW + timedelta(seconds=599))
    assert status_of(of).adaptation == before
    assert status_of(replace(of, now=NOW + timedelta(seconds=600))).adaptation != before


def test_an_idle_hour_writes_nothing() -> None:
    before = status_of(seen(adapted(5, asked_at=NOW.timestamp() - 1))).adaptation
    idle = adapted(5, reason=Reason.ENOUGH, asked_at=NOW.timestamp() - 1)
    assert status_of(seen(idle, before, now=NOW + timedelta(hours=1))).adaptation == before


@pytest.mark.parametrize(
    "news",
    [
        adapted(4),
        adapted(5, reason=Reason.AT_MAXIMUM),
        adapted(5, reason=Reason.STALE),
        adapted(5, hits=HitEvidence(counted=0.4)),
        adapted(5, profile_stale=("labels have shifted: stability index 0.31",)),
    ],
)
def test_what_a_user_cares_about_is_written_at_once(news: Adapted) -> None:
    before = status_of(seen(adapted(5))).adaptation
    of = seen(news, before, now=NOW + timedelta(seconds=15))
    after = status_of(of)
    assert after.adaptation != before
    again = replace(of, status=after, now=NOW + timedelta(seconds=30))
    assert status_of(again).adaptation == after.adaptation


# Whether the profile holds


def test_the_profile_is_judged_by_what_was_measured() -> None:
    assert condition(seen(None), "ProfileCurrent")[:2] == ("Unknown", "NotMeasured")
    assert condition(seen(adapted(5, correction=Correction())), "ProfileCurrent")[:2] == ("Unknown", "NotMeasured")
    status, reason, message = condition(seen(adapted(5)), "ProfileCurrent")
    assert (status, reason) == ("True", "ProfileHolds")
    assert "1.00 x what the profile says (0.96 to 1.04)" in message


def test_a_stale_profile_says_why_and_what_to_do() -> None:
    sentence = "compute takes 1.41 to 1.47 x what the profile says"
    status, reason, message = condition(seen(adapted(5, profile_stale=(sentence,))), "ProfileCurrent")
    assert (status, reason) == ("False", "ProfileStale")
    assert message.startswith(f"{sentence}. Plans count compute as slow as it is measured")
    assert "Remeasuring says what else is done" in message


def test_it_stays_stale_as_long_as_plans_count_the_slowness() -> None:
    slow = adapted(5, slowness={"p": 1.4})  # the estimate is no longer sure, the plan still counts it
    assert condition(seen(slow), "ProfileCurrent")[:2] == ("False", "ProfileStale")
    assert "plans count 1.40 x" in condition(seen(slow), "ProfileCurrent")[2]


def test_a_plan_found_later_is_deployed_with_the_number_that_was_adapted() -> None:
    of = seen(adapted(3), outcome=found(plan=plan(replicas=1)))
    deploy = decide(of).deploy
    assert deploy is not None
    assert deploy.replicas == 3
