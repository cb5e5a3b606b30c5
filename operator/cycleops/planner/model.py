"""What goes into the planner: workload, budget, candidates, limits. Values are checked when they are made."""

import itertools
import math
from dataclasses import dataclass
from enum import StrEnum

from cycle_wire.profile import Profile
from cycleops.planner.rhythm import Bursts, Recorded, check
from cycleops.planner.simulation.rules import QUOTA_PERIOD_SECONDS

PROMPT_TOKENS_PER_STEP = 256  # cycle_server.batching.generation.plan.STEP_TOKENS


class Algorithm(StrEnum):
    """How a balancer picks a replica; the values are those of spec.loadBalancing.algorithm."""

    ROUND_ROBIN = "RoundRobin"
    LEAST_CONNECTIONS = "LeastConnections"
    CONSISTENT_HASH = "ConsistentHash"


@dataclass(frozen=True, kw_only=True)
class TrafficClass:
    """Requests with lengths and a budget of their own, which share the replicas with those of other classes.

    ``rate_share``: of the workload's rate. ``latency_share``: its latency as a multiple of the budget's, so that a
    tighter budget tightens all classes alike. The percentile is over the requests of this class.
    """

    name: str
    rate_share: float
    input_tokens_p50: int
    input_tokens_p99: int
    percentile: float
    latency_share: float = 1.0

    def __post_init__(self) -> None:
        check(0 < self.rate_share <= 1, "rate_share must be above 0 and at most 1")
        check(1 <= self.input_tokens_p50 <= self.input_tokens_p99, "1 <= input_tokens_p50 <= input_tokens_p99")
        check(50 <= self.percentile <= 99.99, "percentile must be from 50 to 99.99")
        check(0 < self.latency_share < math.inf, "latency_share must be above 0")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What arrives. ``burstiness_cv2`` is the squared coefficient of variation of independent gaps; 1 is Poisson.
    ``rhythm`` replaces it where gaps depend on each other.

    Input lengths are lognormal with these two quantiles, in tokens of the model. ``cache_hit_ratio`` is the share of
    requests that the sidecar answers, as measured: a prediction is made for it. ``cache_hit_ratio_lower`` is the lower
    bound of its confidence interval: replicas are counted for that. Both are 0 when there is no evidence.

    ``output_tokens_p50``, ``output_tokens_p99``: of generated answers, lognormal too. Both or neither; only a model
    that generates needs them.

    ``classes``: with them, lengths are theirs, each must hold its own budget, and the replicas serve them first come
    first served. Their arrivals are one stream of the workload's rhythm.
    """

    rate_per_second: float
    input_tokens_p50: int
    input_tokens_p99: int
    burstiness_cv2: float = 1.0
    cache_hit_ratio: float = 0.0
    cache_hit_ratio_lower: float = 0.0
    rhythm: Bursts | Recorded | None = None
    output_tokens_p50: int | None = None
    output_tokens_p99: int | None = None
    classes: tuple[TrafficClass, ...] = ()

    def __post_init__(self) -> None:
        outputs = (self.output_tokens_p50, self.output_tokens_p99)
        check((outputs[0] is None) == (outputs[1] is None), "output_tokens_p50 goes with output_tokens_p99")
        check(1 <= (outputs[0] or 1) <= (outputs[1] or 1), "1 <= output_tokens_p50 <= output_tokens_p99")
        check(len({one.name for one in self.classes}) == len(self.classes), "classes must have different names")
        together = sum(one.rate_share for one in self.classes)
        check(not self.classes or abs(together - 1) < 1e-6, "the classes' rate_share must be 1 together")
        check(0 < self.rate_per_second < math.inf, "rate_per_second must be above 0")
        check(1 <= self.input_tokens_p50 <= self.input_tokens_p99, "1 <= input_tokens_p50 <= input_tokens_p99")
        check(0 <= self.burstiness_cv2 < math.inf, "burstiness_cv2 must be 0 or more")
        check(0 <= self.cache_hit_ratio_lower < 1, "cache_hit_ratio_lower must be at least 0 and below 1")
        check(0 <= self.cache_hit_ratio < 1, "cache_hit_ratio must be at least 0 and below 1")

    @property
    def expected_hit_ratio(self) -> float:
        """The measured one; at least its lower bound, where only that is given."""
        return max(self.cache_hit_ratio, self.cache_hit_ratio_lower)

    @property
    def least_cv2(self) -> float:
        """Of the gaps, on the low side: what bounds may count on before a simulation."""
        if isinstance(self.rhythm, Recorded):
            return min(self.rhythm.cv2, 1.0)
        return 1.0 if self.rhythm is not None else self.burstiness_cv2  # a modulated Poisson process is never calmer


@dataclass(frozen=True, kw_only=True)
class AccuracyFloor:
    """Either ``minimum``, or ``maximum_drop`` below the value of the variant named ``baseline``. Higher is better."""

    metric: str
    minimum: float | None = None
    maximum_drop: float | None = None
    baseline: str | None = None

    def __post_init__(self) -> None:
        check((self.minimum is None) != (self.maximum_drop is None), "exactly one of minimum and maximum_drop")
        check((self.maximum_drop is None) == (self.baseline is None), "baseline goes with maximum_drop")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """``percentile`` (50 to 99.99) of T, balancer in to balancer out, within ``latency_milliseconds``.

    The caps by term hold at the same percentile, over requests that the cache did not answer. ``first_token`` (door in
    to first token out) and ``per_token`` (between two tokens of an answer) are of models that generate.
    """

    percentile: float
    latency_milliseconds: float
    pre_milliseconds: float | None = None
    post_milliseconds: float | None = None
    first_token_milliseconds: float | None = None
    per_token_milliseconds: float | None = None
    accuracy: AccuracyFloor | None = None

    def __post_init__(self) -> None:
        check(50 <= self.percentile <= 99.99, "percentile must be from 50 to 99.99")
        stages = (self.pre_milliseconds, self.post_milliseconds)
        tokens = (self.first_token_milliseconds, self.per_token_milliseconds)
        for value in (self.latency_milliseconds, *stages, *tokens):
            check(value is None or 0 < value < math.inf, "milliseconds must be above 0")


@dataclass(frozen=True, kw_only=True)
class HardwareOption:
    """A HardwareClass as the planner sees it. The cost is of one replica.

    ``threads`` and ``cpu_limit_cores`` are of each worker of a pod. The latter refills each 100 ms; None when the pods
    have no CPU limit.
    ``pods_per_core``: so many pods on each core and nothing else; their HTTP and their computing then wait for each
    other. None when there are cores to spare, so that nothing waits for one.
    """

    name: str
    cost_per_hour: float
    maximum_replicas: int | None = None
    threads: int = 1
    cpu_limit_cores: float | None = None
    pods_per_core: int | None = None

    def __post_init__(self) -> None:
        check(0 <= self.cost_per_hour < math.inf, "cost_per_hour must be 0 or more")
        check(self.maximum_replicas is None or self.maximum_replicas >= 1, "maximum_replicas must be 1 or more")
        check(self.threads >= 1, "threads must be 1 or more")
        check(self.cpu_limit_cores is None or self.cpu_limit_cores > 0, "cpu_limit_cores must be above 0")
        if self.pods_per_core is not None:
            alone = self.threads == 1 and self.cpu_limit_cores is None
            check(self.pods_per_core >= 1 and alone, "pods_per_core: from 1, with one thread and without a CPU limit")

    @property
    def quota_seconds(self) -> float:
        """CPU time in each period; 0 without a limit."""
        limit = self.cpu_limit_cores
        return 0.0 if limit is None else limit * QUOTA_PERIOD_SECONDS


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One variant measured on one class of hardware. Variant and hardware together must be unique in a call.

    ``stale``: why the profile may not hold any more; a plan names it. Empty when it holds.
    """

    profile: Profile
    hardware: HardwareOption
    stale: str = ""

    @property
    def label(self) -> str:
        return f"{self.profile.variant} on {self.hardware.name}"

    def metric(self, name: str) -> float | None:
        """The measured value, or None when it was not measured."""
        return next((metric.value for metric in self.profile.metrics if metric.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """What may be lost with the budget still held: any so many replicas; or one of so many zones.

    0: nothing, or no zones. Replicas are taken to be spread over the zones as evenly as they can be.
    """

    replicas: int = 0
    zones: int = 0

    def __post_init__(self) -> None:
        check(self.replicas >= 0, "headroom's replicas must be 0 or more")
        check(self.zones == 0 or self.zones >= 2, "headroom's zones must be 2 or more, or 0")

    def left_of(self, replicas: int) -> int:
        """Of so many replicas that are alike, in the worst case."""
        zone = -(-replicas // self.zones) if self.zones else 0
        return max(replicas - max(self.replicas, zone), 0)

    def replicas_for(self, needed: int, *, fewest: int) -> int:
        """The fewest, and at least ``fewest``, that leave so many as are needed."""
        replicas = max(fewest, needed)
        while self.left_of(replicas) < needed:
            replicas += 1
        return replicas

    def remainders(self, counts: tuple[int, ...]) -> list[tuple[int, ...]]:
        """What may be left of each of several groups, for each loss; nothing when nothing is asked for."""
        left = []
        if self.replicas:
            every = itertools.product(*(range(min(count, self.replicas) + 1) for count in counts))
            together = min(self.replicas, sum(counts))
            left = [
                tuple(count - lost for count, lost in zip(counts, one, strict=True))
                for one in every
                if sum(one) == together
            ]
        if self.zones:
            left.append(tuple(count - -(-count // self.zones) for count in counts))
        return left


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Replicas of the whole service; a class may allow fewer.

    ``mixes``: replicas of several classes may serve together.
    """

    minimum_replicas: int = 1
    maximum_replicas: int = 10
    mixes: bool = False
    headroom: Headroom = Headroom()

    def __post_init__(self) -> None:
        check(1 <= self.minimum_replicas <= self.maximum_replicas, "1 <= minimum_replicas <= maximum_replicas")


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """A choice the user made. What is None is searched; with all four given the plan is only judged."""

    variant: str | None = None
    hardware: str | None = None
    batch_size: int | None = None
    delay_milliseconds: float | None = None
    replicas: int | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the planner works.

    ``requests``: simulated per evaluation. At p99, 20,000 leave 190 above the percentile after the warm-up.
    ``dispatchers``: balancer pods; each picks replicas knowing only its own requests.
    ``balancer_overhead_seconds``: added to every request for the hop through HAProxy and the Service in front of it,
    which no profile contains. The default is an assumption, not a measurement of your cluster.
    ``maximum_utilization``: most that the rate may be of what full batches carry. Near 1 a small error of the profile
    is a large one of the wait, and a finite simulation says nothing. Hence ``tight_from``: above this share the budget
    must also be held by ``tight_growth`` times the rate.
    ``hash_load_percent``: of the mean load, what consistent hashing gives a replica at most; as in our HAProxy's.
    ``prompt_tokens_per_step``: what the prompts of a model that generates may take of one step; our server's own.
    ``delay_share``: the one batching delay tried besides 0, as a share of the mean compute of one request.
    """

    requests: int = 20_000
    dispatchers: int = 2
    balancer_overhead_seconds: float = 0.001
    maximum_utilization: float = 0.9
    tight_from: float = 0.8
    tight_growth: float = 1.05
    delay_share: float = 0.5
    hash_load_percent: int = 150
    prompt_tokens_per_step: int = PROMPT_TOKENS_PER_STEP

    def __post_init__(self) -> None:
        check(self.requests >= 1_000, "requests must be 1,000 or more")
        check(self.dispatchers >= 1, "dispatchers must be 1 or more")
        check(0 < self.maximum_utilization < 1, "maximum_utilization must be between 0 and 1")
        tightest = self.maximum_utilization * self.tight_growth
        check(self.tight_growth > 1, "tight_growth must be above 1")
        check(
            self.tight_from >= self.maximum_utilization or tightest < 1,
            "maximum_utilization must be below 1 with tight_growth too",
        )
        check(self.balancer_overhead_seconds >= 0, "balancer_overhead_seconds must be 0 or more")
        check(self.prompt_tokens_per_step >= 1, "prompt_tokens_per_step must be 1 or more")
        check(self.delay_share >= 0, "delay_share must be 0 or more")
        check(self.hash_load_percent > 100, "hash_load_percent must be above 100")
