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
        half of what is earned from one to the next.
        """
        if not self.surge_late or (not self.recurred and self.balance >= 0):
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
    known = _surge(before, rate=arrivals / window_seconds, late=late, surging=surging, keep=keep)
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


def _surge(before: Account, *, rate: float, late: int, surging: bool, keep: float) -> Account:
    """What is known of surges after a window."""
    if surging:
        return before.model_copy(
            update={"running_late": before.running_late + late, "running_rate": max(before.running_rate, rate)}
        )
    cost, high = before.surge_late * keep, before.surge_rate
    recurred, calm = before.recurred, before.calm or rate < high / 2
    if before.running_late:
        recurred += before.calm and before.running_rate >= _AGAIN * high
        cost, high, calm = max(cost, before.running_late), max(high, before.running_rate), False
    elif calm and high and rate >= _AGAIN * high:
        recurred, calm = recurred + 1, False
    if cost < 1:
        cost, high, recurred, calm = 0.0, 0.0, 0, False
    update = {"surge_late": cost, "surge_rate": high, "recurred": recurred, "calm": calm}
    return before.model_copy(update={"running_late": 0.0, "running_rate": 0.0, **update})
