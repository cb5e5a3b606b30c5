"""What goes into :func:`adapt` and comes out of it. Everything is plain data: the state fits into a status."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cycleops.planner.adaptation.account import Account
from cycleops.planner.adaptation.contention import Contention
from cycleops.planner.adaptation.correction import Correction
from cycleops.planner.adaptation.forecast import Rate
from cycleops.planner.adaptation.watch import MAXIMUM_BUCKETS, Watch


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Measurement(_Frozen):
    """One window, over all pods. Windows follow each other and don't overlap. Late: answered after the budget."""

    ended_at: float = Field(description="Seconds since the epoch.")
    window_seconds: float = Field(gt=0)
    arrivals: int = Field(ge=0, description="At the balancers; cache hits included.")
    answered: int = Field(ge=0)
    late: int = Field(ge=0, description="Of the answered, those after the budget.")
    refused: int = Field(default=0, ge=0, description="Shed or failed.")
    compute_seconds: float | None = Field(default=None, gt=0, description="Mean compute of an answered request.")
    computed: int | None = Field(default=None, ge=0, description="Requests behind that mean; None: all answered.")
    ready_replicas: int = Field(ge=0)
    lengths: tuple[int, ...] = Field(
        default=(), max_length=MAXIMUM_BUCKETS, description="Requests by bucket of input length."
    )
    labels: tuple[int, ...] = Field(default=(), max_length=MAXIMUM_BUCKETS, description="Answers by label.")

    @model_validator(mode="after")
    def _late_of_answered(self) -> "Measurement":
        if self.late > self.answered:
            raise ValueError(f"late ({self.late}) must not exceed answered ({self.answered})")
        return self


class Target(_Frozen):
    """What is asked for, and what the deployment can do. ``startup_seconds``: from ordered to ready."""

    percentile: float = Field(ge=50, le=99.99)
    minimum_replicas: int = Field(ge=1)
    maximum_replicas: int = Field(ge=1)
    startup_seconds: float = Field(ge=0)
    declared_per_second: float = Field(gt=0, description="The highest rate the user expects.")

    @model_validator(mode="after")
    def _limits_in_order(self) -> "Target":
        if self.minimum_replicas > self.maximum_replicas:
            raise ValueError("minimum_replicas must not exceed maximum_replicas")
        return self

    @property
    def late_share(self) -> float:
        """Of the requests, that the percentile allows to be late."""
        return 1 - self.percentile / 100


class AdaptSettings(_Frozen):
    """How it adapts.

    ``deviations``: of the forecast that are provided for. ``headroom``: the rate is taken as that many times as high,
    for those who know surges that no history tells. ``hold_seconds``: for so long fewer replicas must have sufficed
    before any is taken away; at least twice the start-up, since that is what a mistake costs.
    ``repay_seconds``: over which the error budget is evened out; between ``least`` and ``most`` times the allowed
    share may be late meanwhile. ``memory_seconds``: for which late answers and surges count.
    ``stale_seconds``: without a measurement for so long, nothing is taken away.
    """

    interval_seconds: float = Field(default=15.0, gt=0)
    deviations: float = Field(default=1.0, ge=0, le=5)
    headroom: float = Field(default=1.0, ge=0.5, le=10)
    hold_seconds: float = Field(default=90.0, ge=0)
    repay_seconds: float = Field(default=1800.0, gt=0)
    least: float = Field(default=0.3, gt=0, le=1)
    most: float = Field(default=8.0, ge=1)
    memory_seconds: float = Field(default=86_400.0, gt=0)
    stale_seconds: float = Field(default=60.0, gt=0)


class State(_Frozen):
    """What must be kept between two calls. ``fewer_since``: since when fewer would do, with the most of those."""

    replicas: int = Field(ge=1)
    measured_at: float | None = None
    fewer_since: float | None = None
    fewer_most: int = Field(default=0, ge=0)
    rate: Rate = Rate()
    correction: Correction = Correction()
    contention: Contention = Contention()
    account: Account = Account()
    watch: Watch = Watch()


class Reason(StrEnum):
    """Why the replicas are what they are. Stable words."""

    ENOUGH = "Enough"
    RATE_GROWS = "RateGrows"  # the forecast, with its interval, needs more
    SURGE_KEPT = "SurgeKept"  # another surge like the last could not be afforded
    FEWER_DO = "FewerDo"  # for long enough fewer would have done
    HELD = "Held"  # fewer would do, but not for long enough yet
    AT_MAXIMUM = "AtMaximum"  # more are needed than allowed
    STALE = "MeasurementStale"  # no news: nothing is taken away


class Decision(_Frozen):
    """``replicas`` to have; ``message`` says why, with numbers. ``profile_stale``: why profiles should be made anew."""

    replicas: int = Field(ge=1)
    reason: Reason
    message: str
    needed: int | None = Field(description="For the forecast; None when even the most don't suffice.")
    forecast_per_second: float = Field(ge=0)
    stale: bool = False
    profile_stale: tuple[str, ...] = ()
