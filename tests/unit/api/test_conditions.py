"""set_condition: pure, keeps the time of the last transition."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cycleops.api.conditions import (
    MAXIMUM_MESSAGE,
    Condition,
    ConditionStatus,
    JobCondition,
    find_condition,
    is_true,
    set_condition,
)
from cycleops.api.reasons import Reason

START = datetime(2026, 11, 24, 3, 0, 0, 123456, tzinfo=UTC)
LATER = START + timedelta(hours=1)


def condition(conditions: list[Condition], **changes: Any) -> list[Condition]:
    arguments: dict[str, Any] = {
        "type": JobCondition.TRAINED,
        "status": False,
        "reason": Reason.TRAINING,
        "message": "step 1",
        "generation": 1,
        "now": START,
    }
    return set_condition(conditions, **(arguments | changes))


def test_new_condition_comes_last_and_has_no_fraction_of_a_second() -> None:
    before = condition([], type=JobCondition.ADMITTED)
    after = condition(before)
    assert [c.type for c in after] == ["Admitted", "Trained"]
    assert after[1].last_transition_time == START.replace(microsecond=0)
    assert after[1].to_dict() == {
        "type": "Trained",
        "status": "False",
        "reason": "Training",
        "message": "step 1",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T03:00:00Z",
    }
    assert len(before) == 1, "the argument is left alone"


def test_same_status_keeps_the_time_and_takes_the_rest() -> None:
    after = condition(condition([]), message="step 2", generation=2, now=LATER)
    assert after[0].last_transition_time == START.replace(microsecond=0)
    assert (after[0].message, after[0].observed_generation) == ("step 2", 2)


def test_other_status_takes_the_new_time_and_keeps_the_place() -> None:
    both = condition(condition([]), type=JobCondition.SUCCEEDED, status=None)
    after = condition(both, status=True, reason=Reason.TRAINING_FINISHED, now=LATER)
    assert [c.type for c in after] == ["Trained", "Succeeded"]
    assert after[0].last_transition_time == LATER.replace(microsecond=0)
    assert after[1] == both[1]


def test_setting_the_same_again_changes_nothing() -> None:
    once = condition([])
    assert condition(once, now=LATER) == once


@pytest.mark.parametrize(("given", "stored"), [(True, "True"), (False, "False"), (None, "Unknown")])
def test_status_from_a_truth(given: bool | None, stored: str) -> None:
    (only,) = condition([], status=given)
    assert only.status is ConditionStatus(stored)
    assert is_true([only], "Trained") is (given is True)


def test_long_message_is_cut_to_what_the_api_takes() -> None:
    (only,) = condition([], message="x" * (MAXIMUM_MESSAGE + 1))
    assert len(only.message) == MAXIMUM_MESSAGE
    assert only.message.endswith("...")
    assert Condition.model_validate(only.to_dict()) == only


def test_find() -> None:
    assert find_condition([], "Ready") is None
    assert not is_true([], "Ready")


@pytest.mark.parametrize("reason", list(Reason))
def test_reason_fits_a_condition_and_has_a_meaning(reason: Reason) -> None:
    (only,) = condition([], reason=reason)
    assert Condition.model_validate(only.to_dict()).reason == reason.value
    assert reason.meaning.endswith(".")
    assert reason.name.replace("_", "").lower() == reason.value.lower()
