"""What comes out of the planner. Times in milliseconds, cost per hour; :func:`to_dict` makes plain JSON types."""

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class RejectReason(StrEnum):
    """Why a candidate lost. Stable words; the sentence beside each has the numbers."""

    MIXED_TASKS = "MixedTasks"  # profiles of models that generate beside those of models that don't
    NO_ROWS = "NoRows"  # the profile has no complete grid to plan from
    OUTSIDE_MEASURED_RANGE = "OutsideMeasuredRange"  # inputs longer than any that was measured
    METRIC_MISSING = "MetricMissing"
    BASELINE_MISSING = "BaselineMissing"
    BELOW_ACCURACY_FLOOR = "BelowAccuracyFloor"
    STAGE_CAP = "StageCapExceeded"
    LATENCY_FLOOR = "LatencyFloor"  # even an idle server is too slow
    RATE_ABOVE_CAPACITY = "RateAboveCapacity"  # the allowed replicas can't carry the rate
    REPLICA_LIMIT = "ReplicaLimit"  # they can, but not within the budget
    NOT_PINNED = "NotPinned"
    COSTLIER = "Costlier"
    LESS_ACCURATE = "LessAccurate"  # as cheap
    SLOWER = "Slower"  # as cheap and as accurate


class Obstacle(StrEnum):
    """What stands in the way of every candidate; the values are reasons of the Feasible condition."""

    NO_PROFILES = "NoProfiles"
    LENGTHS = "OutsideMeasuredRange"
    ACCURACY = "AccuracyInfeasible"
    STAGE = "StageInfeasible"
    LATENCY = "LatencyInfeasible"
    CAPACITY = "CapacityInfeasible"
    PINNED = "PinnedInfeasible"


class Dimension(StrEnum):
    LATENCY = "latency"
    FIRST_TOKEN = "firstToken"  # noqa: S105  # no password
    PER_TOKEN = "perToken"  # noqa: S105  # no password
    ACCURACY = "accuracy"
    RATE = "rate"
    REPLICAS = "replicas"


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of T over the requests that the cache did not answer."""

    mean_ms: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class ClassPrediction:
    """T of one class of traffic at its own percentile, beside its own budget."""

    name: str
    percentile: float
    latency_ms: float
    sized_at_ms: float
    latency_share: float  # its budget as a multiple of the service's


@dataclass(frozen=True, kw_only=True)
class TokenTime:
    """``budgeted_ms`` is at the budget's percentile; the rest is to it what it is to ``latency_ms`` of a prediction."""

    mean_ms: float
    p50_ms: float
    p99_ms: float
    budgeted_ms: float
    sized_at_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Of a model that generates. ``first_token``: from the balancer's door in to the first token out; ``per_token``:
    between two tokens of an answer, over all of these gaps. ``tokens_per_second`` of all replicas.
    """

    first_token: TokenTime
    per_token: TokenTime
    tokens_per_second: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """T of all requests, hits included. Quantiles of terms don't add up to quantiles of T.

    ``latency_ms`` is at the budget's percentile; ``sized_at_ms`` adds the half-width of the simulation's 95 %
    confidence interval and is what is held against the budget; ``low_ms`` to ``high_ms`` is the band with the
    profile's own residual added. ``utilization`` is the busy share of a replica; ``load`` is the rate as a share of
    what full batches would carry: what is above it is room to grow.
    Of a model that generates, ``queue`` is the wait for a place, ``compute`` lasts to the last token, ``mean_batch`` is
    of sequences that get a token in a step.
    ``cache_hit_ratio``: of the requests that this is a prediction for. ``extrapolated_share``: of the inputs, those
    that are longer than any that was measured.

    ``classes``: with classes of traffic, ``latency_ms``, ``sized_at_ms`` and the band are those of the class that is
    nearest to its budget, divided by its ``latency_share``.
    """

    percentile: float
    latency_ms: float
    sized_at_ms: float
    low_ms: float
    high_ms: float
    p50_ms: float
    p99_ms: float
    pre: Term
    queue: Term
    compute: Term
    post: Term
    overhead: Term
    utilization: float
    load: float
    mean_batch: float
    cache_hit_ratio: float
    extrapolated_share: float
    classes: tuple[ClassPrediction, ...] = ()
    generation: Generated | None = None


@dataclass(frozen=True, kw_only=True)
class PlanGroup:
    """Replicas of one class."""

    hardware: str
    batch_size: int
    delay_milliseconds: float
    replicas: int
    cost_per_hour: float

    @property
    def label(self) -> str:
        return f"{self.hardware}, batch {self.batch_size} x {self.replicas}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``groups``: one for each class of hardware; of several, a mix, the fields before it name all classes, the largest
    batch and delay, all replicas, what they cost together, and the lowest accuracy.

    ``batch_size``: of a model that generates, the most sequences that are under way at once in a replica.
    """

    variant: str
    hardware: str
    batch_size: int
    delay_milliseconds: float
    replicas: int
    cost_per_hour: float
    accuracy: float | None
    groups: tuple[PlanGroup, ...]
    predicted: Prediction

    @property
    def label(self) -> str:
        return f"{self.variant} on {' + '.join(group.label for group in self.groups)}"


@dataclass(frozen=True, kw_only=True)
class Rejected:
    variant: str
    hardware: str
    batch_size: int | None  # None: it lost at every batch size
    reason: RejectReason
    message: str


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """A simulated choice that no other simulated choice beats in cost, p99 and accuracy at once."""

    variant: str
    hardware: str
    batch_size: int
    replicas: int
    cost_per_hour: float
    p99_ms: float
    accuracy: float | None
    meets_budget: bool

    @property
    def label(self) -> str:
        return f"{self.variant} on {self.hardware}, batch {self.batch_size} x {self.replicas}"


@dataclass(frozen=True, kw_only=True)
class NearestFeasible:
    """One change that makes a plan possible: the dimension's new value, and the price of the plan found then."""

    dimension: Dimension
    value: float
    cost_per_hour: float
    plan: Plan
    message: str


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """``plan`` is there when feasible; when not, only if every choice was pinned and could be simulated."""

    feasible: bool
    plan: Plan | None
    rejected: tuple[Rejected, ...]
    frontier: tuple[FrontierPoint, ...]
    nearest: tuple[NearestFeasible, ...]
    obstacle: Obstacle | None
    baseline_accuracy: float | None
    sentences: tuple[str, ...]


def to_dict(result: PlanResult) -> dict[str, Any]:
    """Plain JSON types, snake_case; infinities and NaN, which JSON lacks, as None."""
    plain = _plain(dataclasses.asdict(result))
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.value if isinstance(value, StrEnum) else value
