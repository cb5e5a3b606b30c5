"""What the search asks of a candidate at a limit of sequences and a number of replicas. Answers are kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.choice import Able
from cycleops.planner.generation.outcomes import GenerationSizing, prediction_of, sizing_of, stricter
from cycleops.planner.generation.rules import Admission
from cycleops.planner.generation.simulate import (
    GenerationDraws,
    GenerationOutcome,
    GenerationPath,
    GenerationShape,
    draw_generation,
    path_of,
    simulate_generation,
)
from cycleops.planner.generation.times import GenerationTimes
from cycleops.planner.model import Algorithm, Settings, Workload
from cycleops.planner.outcomes import Target, quantile, targets_of
from cycleops.planner.result import Dimension, Prediction

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
LEAST_REQUESTS = 4_000
MOST_TOKENS = 4_000_000  # simulated at once: a step costs some 50 ns
BEYOND_PERCENTILE = 60  # requests, as far as MOST_TOKENS allows


@dataclass(frozen=True, kw_only=True)
class Generator(Able):
    times: GenerationTimes


@dataclass(frozen=True, kw_only=True)
class GenerationChoice:
    """``sequences``: most that run at once in one replica."""

    sequences: int
    replicas: int


Key = tuple[tuple[str, str], GenerationChoice]


@dataclass(kw_only=True)
class GenerationEvaluator:
    """Simulates candidates under one workload. ``percentile`` is the budget's."""

    workload: Workload
    percentile: float
    algorithm: Algorithm
    settings: Settings
    seed: int
    draws: GenerationDraws = field(init=False)
    targets: tuple[Target, ...] = field(init=False)
    _sized: dict[Key, GenerationSizing] = field(init=False, default_factory=dict)
    _kept: dict[Key, GenerationSizing] = field(init=False, default_factory=dict)
    _paths: dict[tuple[tuple[str, str], float], GenerationPath] = field(init=False, default_factory=dict)
    _costs: dict[tuple[tuple[str, str], int], float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        answer = self.workload.output_tokens_p50 or 1
        beyond = [(1.0, self.percentile), *((one.rate_share, one.percentile) for one in self.workload.classes)]
        needed = (math.ceil(BEYOND_PERCENTILE / (1 - percentile / 100) / share) for share, percentile in beyond)
        wanted = max(self.settings.requests, *needed)
        self.draws = draw_generation(
            workload=self.workload,
            requests=min(wanted, max(LEAST_REQUESTS, MOST_TOKENS // answer)),
            dispatchers=self.settings.dispatchers,
            seed=self.seed,
        )
        self.targets = targets_of(self.workload, self.percentile, self.draws.base.traffic)

    @property
    def evaluations(self) -> Mapping[Key, GenerationSizing]:
        return self._sized

    @property
    def miss_rate_per_second(self) -> float:
        return self.workload.rate_per_second * (1 - self.workload.cache_hit_ratio_lower)

    def size(self, one: Generator, choice: GenerationChoice) -> GenerationSizing:
        """With the hits that there is evidence for, and where the load is tight, with more requests too."""
        key = (one.key, choice)
        if key not in self._sized:
            own = self._size(one, choice)
            tight = self.load(one, choice.sequences, choice.replicas) > self.settings.tight_from
            self._sized[key] = stricter(own, self.tight.size(one, choice)) if tight else own
        return self._sized[key]

    @cached_property
    def tight(self) -> "GenerationEvaluator":
        """Under as many more requests as a tight load must leave room for."""
        more = self.workload.rate_per_second * self.settings.tight_growth
        return replace(
            self,
            workload=replace(self.workload, rate_per_second=more),
            settings=replace(self.settings, maximum_utilization=0.99, tight_from=math.inf),
        )

    def _size(self, one: Generator, choice: GenerationChoice) -> GenerationSizing:
        """At the rate itself."""
        key = (one.key, choice)
        if key not in self._kept:
            same = self._never_full(one, choice)
            if same is None:
                outcome = self._simulate(one, choice, self.workload.cache_hit_ratio_lower)
                same = sizing_of(outcome, percentile=self.percentile, targets=self.targets)
            self._kept[key] = same
        return self._kept[key]

    def _never_full(self, one: Generator, choice: GenerationChoice) -> GenerationSizing | None:
        """What a lower limit gave, if it was never reached: then a higher one changes nothing."""
        for sequences in one.times.concurrencies:
            known = self._kept.get((one.key, replace(choice, sequences=sequences)))
            if sequences < choice.sequences and known is not None and known.largest_running < sequences:
                return known
        return None

    def predict(self, one: Generator, choice: GenerationChoice) -> Prediction:
        """With the hits that were measured; held against the budget as :meth:`size` is."""
        hit_ratio = self.workload.expected_hit_ratio
        lengths = self.draws.base.tokens + self.draws.output
        seen = prediction_of(
            self._simulate(one, choice, hit_ratio),
            percentile=self.percentile,
            targets=self.targets,
            times=one.times,
            load=self.load(one, choice.sequences, choice.replicas),
            hit_ratio=hit_ratio,
            extrapolated_share=float((lengths > one.times.longest_context).mean()),
        )
        return replace(seen, sized_at_ms=max(seen.sized_at_ms, self.size(one, choice).latency_ms))

    def idle(self, one: Generator) -> Mapping[Dimension, float]:
        """Milliseconds at the percentile on a server without other requests: no choice goes below them."""
        path, share = self._path(one, self.workload.cache_hit_ratio_lower), self.percentile / 100
        decode = self._alone(one)
        first = path.overhead + path.pre + path.prefill
        total = np.where(path.hit, path.hit_time, first + (self.draws.output - 1) * decode + path.post)
        steps = np.where(path.hit, 0, self.draws.output - 1)
        return {
            Dimension.LATENCY: 1000
            * max(quantile(t.of(total), t.percentile / 100) / t.latency_share for t in self.targets),
            Dimension.FIRST_TOKEN: 1000 * quantile(first[~path.hit], share),
            Dimension.PER_TOKEN: 1000 * _weighted_quantile(decode, steps, share),
        }

    def _alone(self, one: Generator) -> Array:
        """Mean seconds of a step while each request runs by itself."""
        context = self.draws.base.tokens + self.draws.output / 2
        return one.times.step_seconds(running=1, context=context)

    def stage_milliseconds(self, one: Generator) -> tuple[float, float]:
        """Pre and post at the percentile."""
        path, share = self._path(one, self.workload.cache_hit_ratio_lower), self.percentile / 100
        return 1000 * quantile(path.pre[~path.hit], share), 1000 * quantile(path.post[~path.hit], share)

    def request_seconds(self, one: Generator, sequences: int) -> float:
        """Of compute, that a request costs in the mean when so many run all the time."""
        key = (one.key, sequences)
        if key not in self._costs:
            prompt, output = self.draws.base.tokens, self.draws.output
            steps = output - 1
            together = max(float(steps.sum()), 1.0)
            context = float((steps * (prompt + output / 2)).sum()) / together  # as often as a step sees it
            step = float(one.times.step_seconds(running=sequences, context=context))
            prefill = float(one.times.prefill.mean(prompt).mean())
            self._costs[key] = prefill + float(steps.mean()) * step / sequences
        return self._costs[key]

    def load(self, one: Generator, sequences: int, replicas: int) -> float:
        """The rate as a share of what so many replicas carry with all their places taken."""
        return self.miss_rate_per_second * self.request_seconds(one, sequences) / replicas

    def stable_replicas(self, one: Generator, sequences: int) -> int:
        load = self.load(one, sequences, 1)
        return max(1, math.ceil(load / self.settings.maximum_utilization - 1e-9))

    def _path(self, one: Generator, hit_ratio: float) -> GenerationPath:
        key = (one.key, hit_ratio)
        if key not in self._paths:
            self._paths[key] = path_of(
                draws=self.draws,
                times=one.times,
                hit_ratio=hit_ratio,
                balancer_overhead_seconds=self.settings.balancer_overhead_seconds,
            )
        return self._paths[key]

    def _simulate(self, one: Generator, choice: GenerationChoice, hit_ratio: float) -> GenerationOutcome:
        shape = GenerationShape(
            replicas=choice.replicas,
            admission=Admission(choice.sequences, self.settings.prompt_tokens_per_step),
            algorithm=self.algorithm,
            dispatchers=self.settings.dispatchers,
            hash_load_percent=self.settings.hash_load_percent,
        )
        return simulate_generation(
            draws=self.draws,
            times=one.times,
            path=self._path(one, hit_ratio),
            shape=shape,
            rate_per_second=self.workload.rate_per_second,
        )


def _weighted_quantile(values: Array, weights: Indices, share: float) -> float:
    """The smallest value with at least this share of the weights at or below it; 0 without weights."""
    order = np.argsort(values)
    seen = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(seen, share * seen[-1])]) if seen[-1] else 0.0
