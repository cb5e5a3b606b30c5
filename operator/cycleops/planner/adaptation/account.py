"""The error budget: a budget at p99 allows one late answer in a hundred, and this is the account of them.

What was saved in quiet hours may be spent on leaner replicas; what was overspent is earned back with more. Surges
(windows in which far more were late than allowed) are remembered by what they cost and how high the rate went: where
they recur, as many replicas are kept as make another one affordable.

Source of the idea: B. Beyer et al. (editors), The Site Reliability Workbook, 2018, chapters 2 and 5 (error budgets,
burn rate).
"""

import math

from pydantic import BaseModel, ConfigDict, Field

SURGE_SHARE = 10.0  # times the allowed share of late answers: a surge, not the tail
_HIGHER = 0.1  # by which the second surge may exceed the first
_AGAIN = 0.7  # of the highest rate of the last surge: this is another one
_CALMS = 2.0  # times the longest calm between two surges: after that the next one is not waited for
# Below half of a surge's rate it is waited for at least and at most so long, however long the calm before was.
_LEAST_WAIT_SECONDS, _MOST_WAIT_SECONDS = 6 * 3600.0, 48 * 3600.0


class Account(BaseModel):
    """In requests, forgotten with the memory's time constant. ``surge_*``: the costliest surge known; 0 if none."""

    model_config = ConfigDict(frozen=True)

    allowed: float = Field(default=0.0, ge=0)
    late: float = Field(default=0.0, ge=0)
    arrivals: float = Field(default=0.0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    running_late: float = Field(default=0.0, ge=0, description="In the surge that is on; 0 when none is.")
    running_rate: float = Field(default=0.0, ge=0)
    surge_late: float = Field(default=0.0, ge=0)
    surge_rate: float = Field(default=0.0, ge=0)
    calm: bool = Field(default=False, description="The rate was below half of surge_rate since.")
    recurred: int = Field(default=0, ge=0, description="How often the rate came back from there to surge_rate.")
    calm_seconds: float = Field(default=0.0, ge=0, description="That the rate was below half since the last surge.")
    longest_calm_seconds: float = Field(default=0.0, ge=0, description="Between two surges.")

    @property
    def balance(self) -> float:
        """Late answers that could still be afforded."""
        return self.allowed - self.late

    def allowance(self, *, share: float, repay_seconds: float, most: float, least: float) -> float:
        """The share that may be late now, so that the account evens out over ``repay_seconds``.

        ``share`` is the budget's own; the result is between ``least`` and ``most`` times it, and below 1.
        """
        if self.arrivals <= 0:
            return share
        earned = share * self.arrivals / self.seconds * repay_seconds
        reserve = self.surge_late if self.recurred else self.surge_late / 2
        factor = min(max(1 + (self.balance - reserve) / earned, least), most)
        return min(share * factor, _halfway(share))

    def affordable(self) -> float | None:
        """Late answers that another surge may cost; None when there is no reason to provide for one.

        After a first surge, none until the account is even again. Where surges recur: what the account has, or
        half of what is earned from one to the next. None also when the rate has been low for long: without requests
        the account gets even in days only, and what is kept meanwhile serves nobody.
        """
        if not self.surge_late or (not self.recurred and self.balance >= 0):
            return None
        if self.calm_seconds > min(max(_CALMS * self.longest_calm_seconds, _LEAST_WAIT_SECONDS), _MOST_WAIT_SECONDS):
            return None
        earned = self.allowed / (1 + self.recurred)
        return max(self.balance, earned / 2)

    @property
    def surge_to_provide_for(self) -> float:
        """Requests per second: of few surges the next may well be higher."""
        return self.surge_rate * (1 + _HIGHER / (1 + self.recurred))


def book(
    before: Account, *, arrivals: int, late: int, share: float, window_seconds: float, memory_seconds: float
) -> Account:
    """Takes in one window. ``late``: answered after the budget or refused. ``share``: allowed, 0 to 1."""
    keep = math.exp(-window_seconds / memory_seconds)
    surging = arrivals > 0 and late > min(SURGE_SHARE * share, _halfway(share)) * arrivals
    known = _surge(before, seconds=window_seconds, arrivals=arrivals, late=late, surging=surging, keep=keep)
    return known.model_copy(
        update={
            "allowed": before.allowed * keep + share * arrivals,
            "late": before.late * keep + late,
            "arrivals": before.arrivals * keep + arrivals,
            "seconds": before.seconds * keep + window_seconds,
        }
    )


def _halfway(share: float) -> float:
    """Between the share that may be late and all: multiples of a median's share would be beyond all."""
    return (1 + share) / 2


def _surge(before: Account, *, seconds: float, arrivals: int, late: int, surging: bool, keep: float) -> Account:
    """What is known of surges after a window of ``seconds``."""
    rate = arrivals / seconds
    if surging:
        return before.model_copy(
            update={"running_late": before.running_late + late, "running_rate": max(before.running_rate, rate)}
        )
    cost, high = before.surge_late * keep, before.surge_rate
    recurred, calm = before.recurred, before.calm or rate < high / 2
    waited, longest = before.calm_seconds + (seconds if rate < high / 2 else 0.0), before.longest_calm_seconds
    if before.running_late:
        again = before.calm and before.running_rate >= _AGAIN * high
        cost, high, calm = max(cost, before.running_late), max(high, before.running_rate), False
    else:
        again = calm and high > 0 and rate >= _AGAIN * high
    if again:
        recurred, calm, longest = recurred + 1, False, max(longest, before.calm_seconds)
    if not calm:
        waited = 0.0
    if cost < 1:
        cost, high, recurred, calm, waited, longest = 0.0, 0.0, 0, False, 0.0, 0.0
    update = {"surge_late": cost, "surge_rate": high, "recurred": recurred, "calm": calm}
    waits = {"calm_seconds": waited, "longest_calm_seconds": longest}
    return before.model_copy(update={"running_late": 0.0, "running_rate": 0.0, **update, **waits})
