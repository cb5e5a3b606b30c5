"""The account of late answers: what may be spent, and what surges cost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycleops.planner.adaptation.account import Account, book

few = settings(max_examples=40, deadline=None, derandomize=True)
DAY = 86_400.0


def booked(windows: list[tuple[int, int]], start: Account | None = None) -> Account:
    """(arrivals, late) of windows of 15 s, at p99."""
    account = start or Account()
    for arrivals, late in windows:
        account = book(account, arrivals=arrivals, late=late, share=0.01, window_seconds=15.0, memory_seconds=DAY)
    return account


def allowance(account: Account) -> float:
    return account.allowance(share=0.01, repay_seconds=1800.0, most=8.0, least=0.3)


CALM, SURGE = (300, 1), (1200, 900)


def test_what_is_not_late_is_saved_and_may_be_spent_later() -> None:
    account = booked([CALM] * 240)
    assert account.balance == pytest.approx(240 * 2, rel=0.05)
    assert allowance(account) > 0.01


def test_what_was_overspent_must_be_earned_back() -> None:
    account = booked([(300, 20)] * 40)
    assert account.balance < 0
    assert allowance(account) < 0.01
    assert allowance(Account()) == 0.01  # nothing known: the budget as it is


def test_a_first_surge_is_provided_for_until_the_account_is_even() -> None:
    calm = booked([CALM] * 40)
    assert calm.affordable() is None
    after = booked([SURGE] * 3 + [CALM], calm)
    assert after.surge_late == pytest.approx(2700, rel=0.01)
    assert after.surge_rate == 80.0
    assert after.affordable() is not None
    assert booked([(300, 0)] * 1300, after).affordable() is None


def test_surges_that_recur_are_provided_for_even_then() -> None:
    after = booked([SURGE] * 3 + [CALM] * 8)
    again = booked([(1200, 0)] * 3 + [CALM] * 8, after)  # held this time: nobody was late
    assert again.recurred == 1
    even = booked([(300, 0)] * 1300, again)
    assert even.balance > 0
    assert even.affordable() is not None
    assert even.surge_to_provide_for > even.surge_rate


def test_one_long_surge_is_one() -> None:
    after = booked([SURGE] * 3 + [(1200, 0)] * 20)
    assert after.recurred == 0


HOUR = 240  # windows


def test_when_nobody_asks_any_more_a_first_surge_is_waited_for_hours_and_not_days() -> None:
    after = booked([SURGE] * 3 + [CALM] * 2)
    assert booked([(0, 0)] * 5 * HOUR, after).affordable() is not None
    idle = booked([(0, 0)] * 7 * HOUR, after)
    assert idle.balance < 0
    assert idle.affordable() is None
    again = booked([SURGE] * 2 + [CALM], idle)  # it came all the same: the next one is waited for longer
    assert again.recurred == 1
    assert booked([(0, 0)] * 12 * HOUR, again).affordable() is not None
    assert booked([(0, 0)] * 15 * HOUR, again).affordable() is None


def test_while_the_rate_stays_above_half_another_surge_is_provided_for() -> None:
    after = booked([SURGE] * 3 + [(660, 7)] * 7 * HOUR)
    assert after.balance < 0
    assert after.affordable() is not None


def test_surges_are_forgotten() -> None:
    after = booked([SURGE] * 3 + [CALM])
    later = book(after, arrivals=0, late=0, share=0.01, window_seconds=10 * DAY, memory_seconds=DAY)
    assert later.surge_rate == 0
    assert later.affordable() is None


@few
@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), max_size=60))
def test_the_allowance_stays_within_its_bounds(windows: list[tuple[int, float]]) -> None:
    account = booked([(arrivals, int(arrivals * late)) for arrivals, late in windows])
    assert 0.003 - 1e-12 <= allowance(account) <= 0.08 + 1e-12
    assert account.affordable() is None or account.affordable() >= 0
    assert Account.model_validate_json(account.model_dump_json()) == account


def test_a_budget_at_the_median_has_an_account_too() -> None:
    account = Account()
    for late in (0, 0, 0, 300):
        account = book(account, arrivals=300, late=late, share=0.5, window_seconds=15.0, memory_seconds=DAY)
    assert account.running_late == 300
    assert 0 < account.allowance(share=0.5, repay_seconds=60.0, most=8.0, least=0.3) < 1
