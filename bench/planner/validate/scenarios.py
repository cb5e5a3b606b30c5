"""What is predicted and then measured. Rates are shares of the capacity that the planner reads from the profile."""

from collections.abc import Sequence
from dataclasses import dataclass

from cycleops.planner import Algorithm
from cycleops.planner.rhythm import Bursts

INPUT_TOKENS_P50, INPUT_TOKENS_P99 = 16, 32  # alike enough that minutes give a p99
PERCENTILE = 99.0
WANTED_HALF_WIDTH = 0.05  # of the 95 % interval of the measured p99, as a share of it; wider ones are undecided
DISTINCT_TEXTS = 2_000  # without a cache; asked in any order
POPULAR_TEXTS = 20_000  # with one, by Zipf's law
PRELOADED_REQUESTS = 1_500  # before the load, so that it doesn't meet a cold cache
SHORT_BURSTS = Bursts(rate_ratio=3.0, time_share=0.2, mean_seconds=0.15)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``load``: of the capacity with full batches. ``zipf``: exponent of the texts' popularity; None: no cache.

    ``replicas`` share the pods' one core; with ``cpu_limit_cores`` the server has so much of it in each 100 ms.
    ``seed``: of what is sent; predictions have their own.
    """

    name: str
    variant: str
    load: float
    budget_milliseconds: float
    seed: int
    batch_size: int = 4
    replicas: int = 1
    algorithm: Algorithm = Algorithm.LEAST_CONNECTIONS
    cv2: float = 1.0
    rhythm: Bursts | None = None
    zipf: float | None = None
    cpu_limit_cores: float | None = None
    scored: bool = True


def _scored(seed: int, variant: str, load: float, budget: float, name: str, **more: object) -> Scenario:
    return Scenario(
        name=f"{variant}-{name}-{100 * load:.0f}", variant=variant, load=load, budget_milliseconds=budget, seed=seed,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def _limited(seed: int, load: float) -> Scenario:
    """Half a core: so twice the load of what the limit leaves."""
    return Scenario(
        name=f"pruned-unscored-limit-{100 * load:.0f}", variant="pruned", load=load, budget_milliseconds=400, seed=seed,
        cpu_limit_cores=0.5, scored=False,
    )  # fmt: skip


def _tuning(seed: int, variant: str, load: float, name: str, **more: object) -> Scenario:
    return Scenario(
        name=f"tuning-{variant}-{name}-{100 * load:.0f}", variant=variant, load=load, budget_milliseconds=50, seed=seed,
        scored=False, **more,  # type: ignore[arg-type]
    )  # fmt: skip


ROUND_ROBIN, LEAST_CONNECTIONS, HASH = Algorithm.ROUND_ROBIN, Algorithm.LEAST_CONNECTIONS, Algorithm.CONSISTENT_HASH

SCENARIOS = (
    _scored(501, "fp32", 0.25, 20, "poisson", batch_size=1),
    _scored(502, "pruned", 0.5, 30, "poisson"),
    _scored(503, "fp32", 0.4, 30, "robin", replicas=2, algorithm=ROUND_ROBIN),
    _scored(504, "fp32", 0.4, 30, "cache", zipf=0.9),
    _scored(505, "pruned", 0.35, 30, "bursts", rhythm=SHORT_BURSTS),
    _scored(506, "fp32", 0.6, 30, "poisson"),
    _scored(507, "pruned", 0.45, 30, "least", replicas=2),
    _scored(508, "fp32", 0.35, 30, "gamma", cv2=3.0),
    _scored(509, "pruned", 0.2, 20, "poisson"),
    _scored(510, "pruned", 0.7, 40, "poisson"),
    _scored(511, "int8", 0.3, 20, "poisson", batch_size=1),
    _scored(512, "int8", 0.4, 30, "hash", replicas=2, algorithm=HASH),
    _scored(513, "int8", 0.35, 30, "gamma-cache", zipf=0.9, cv2=2.0),
    Scenario(name="pruned-unscored-80", variant="pruned", load=0.8, budget_milliseconds=60, seed=516, scored=False),
    Scenario(name="pruned-unscored-90", variant="pruned", load=0.9, budget_milliseconds=100, seed=517, scored=False),
    _limited(518, 0.2),
    _limited(519, 0.3),
)

# What the model was mended with: other loads and seeds than those that are scored.
TUNING = (
    _tuning(901, "fp32", 0.25, "poisson", batch_size=1),
    _tuning(902, "fp32", 0.55, "poisson"),
    _tuning(903, "fp32", 0.35, "robin", replicas=2, algorithm=ROUND_ROBIN),
    _tuning(904, "fp32", 0.55, "least", replicas=2),
    _tuning(905, "fp32", 0.3, "gamma", cv2=2.0),
    _tuning(906, "pruned", 0.4, "cache", zipf=0.8),
    _tuning(907, "pruned", 0.65, "poisson", batch_size=2),
    _tuning(908, "int8", 0.5, "poisson"),
)


def choose(names: Sequence[str], *, among: Sequence[Scenario] = SCENARIOS) -> list[Scenario]:
    """In the order of the table; all when no names are given. Raises KeyError with those that there aren't."""
    if unknown := set(names) - {scenario.name for scenario in among}:
        raise KeyError(", ".join(sorted(unknown)))
    return [scenario for scenario in among if not names or scenario.name in names]
