"""Simulation of the data path of a model that generates: dispatchers -> replicas (sidecar, tokenizer, scheduler).

T of a request = overhead + pre + queue + compute + post, with compute from its joining to its last token. Its time to
first token ends when the prompt is computed: tokens are streamed. Time per token is each gap between two tokens of an
answer, as our server measures it.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.generation.rules import Admission, Sequences
from cycleops.planner.generation.times import GenerationTimes
from cycleops.planner.model import Algorithm, Workload
from cycleops.planner.simulate import WARM_UP_SHARE
from cycleops.planner.simulation.fleet import ring_of
from cycleops.planner.traffic import Draws, draw

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
_OUTPUT_STREAM = 1_000  # apart from the streams of ``traffic.draw``
STEP_SEED = 11  # of the steps' luck, the same for all candidates


@dataclass(frozen=True, kw_only=True)
class GenerationDraws:
    """``base``: arrivals, prompts and luck, as of any workload. ``output``: tokens of each answer."""

    base: Draws
    output: Indices

    @property
    def count(self) -> int:
        return self.base.count


@dataclass(frozen=True, kw_only=True)
class GenerationShape:
    """What is simulated: the choice that the planner makes."""

    replicas: int
    admission: Admission
    algorithm: Algorithm
    dispatchers: int
    hash_load_percent: int = 150


@dataclass(frozen=True, kw_only=True)
class GenerationPath:
    """What of a request's time does not depend on others, per request in seconds."""

    hit: NDArray[np.bool_]
    hit_time: Array
    overhead: Array
    pre: Array
    prefill: Array
    post: Array


@dataclass(frozen=True, kw_only=True)
class GenerationOutcome:
    """Seconds per request after the warm-up: T of all requests; the rest of those that the cache did not answer.

    ``gaps``: [stretch of time, bucket], how many tokens came so long after the one before; buckets as in a profile.
    """

    total: Array
    first_token: Array
    gaps: Indices
    pre: Array
    queue: Array
    compute: Array
    post: Array
    overhead: Array
    utilization: float
    mean_running: float  # that decode in a step
    largest_running: int  # sequences under way
    tokens_per_second: float  # of all replicas


def output_quantile(workload: Workload, percentile: float) -> float:
    """Tokens that this share (in percent) of the answers does not exceed."""
    p50, normal = workload.output_tokens_p50 or 1, NormalDist()
    sigma = math.log((workload.output_tokens_p99 or 1) / p50) / normal.inv_cdf(0.99)
    return p50 * math.exp(sigma * normal.inv_cdf(percentile / 100))


def draw_generation(*, workload: Workload, requests: int, dispatchers: int, seed: int) -> GenerationDraws:
    """Raises ValueError when the workload does not say how long answers are."""
    if workload.output_tokens_p50 is None or workload.output_tokens_p99 is None:
        raise ValueError("a model that generates needs output_tokens_p50 and output_tokens_p99 of the workload")
    stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_OUTPUT_STREAM,)))
    sigma = math.log(workload.output_tokens_p99 / workload.output_tokens_p50) / NormalDist().inv_cdf(0.99)
    output = np.rint(workload.output_tokens_p50 * np.exp(sigma * stream.standard_normal(requests)))
    return GenerationDraws(
        base=draw(workload=workload, requests=requests, dispatchers=dispatchers, seed=seed),
        output=np.maximum(output, 1).astype(np.int64),
    )


def path_of(
    *, draws: GenerationDraws, times: GenerationTimes, hit_ratio: float, balancer_overhead_seconds: float
) -> GenerationPath:
    base = draws.base
    return GenerationPath(
        hit=base.cache_luck < hit_ratio,
        hit_time=times.cache_hit[base.cache_hit] + balancer_overhead_seconds,
        overhead=times.overhead[base.overhead] + balancer_overhead_seconds,
        pre=times.pre.seconds(base.tokens, base.pre),
        prefill=times.prefill.seconds(base.tokens, base.compute),
        post=times.post.seconds(draws.output, base.post),
    )


def simulate_generation(
    *,
    draws: GenerationDraws,
    times: GenerationTimes,
    path: GenerationPath,
    shape: GenerationShape,
    rate_per_second: float,
) -> GenerationOutcome:
    from cycleops.planner.generation import kernel  # numba: imported when it is needed

    arrival = np.cumsum(draws.base.gaps) / rate_per_second
    miss = ~path.hit
    sequences = Sequences(
        arrival=arrival,
        ready=arrival + np.where(miss, path.overhead / 2 + path.pre, path.hit_time),
        after=np.where(miss, path.post + path.overhead / 2, 0.0),
        queued=miss,
        prompt=draws.base.tokens,
        output=draws.output,
        prefill=path.prefill,
        dispatcher=draws.base.dispatcher % shape.dispatchers,
        spread=draws.base.spread,
    )
    longest = float((draws.base.tokens + draws.output).max())
    steps = times.steps(most_sequences=shape.admission.most_sequences, longest=longest, seed=STEP_SEED)
    state = kernel.new_state(
        sequences,
        replicas=shape.replicas,
        dispatchers=shape.dispatchers,
        most_sequences=shape.admission.most_sequences,
    )
    hashes = shape.algorithm is Algorithm.CONSISTENT_HASH
    policy = {
        Algorithm.ROUND_ROBIN: kernel.ROUND_ROBIN,
        Algorithm.LEAST_CONNECTIONS: kernel.LEAST_CONNECTIONS,
        Algorithm.CONSISTENT_HASH: shape.hash_load_percent,
    }[shape.algorithm]
    ring, warm = ring_of(shape.replicas if hashes else 1), math.ceil(WARM_UP_SHARE * draws.count)
    kernel.run_together(state, sequences, steps, shape.admission, ring, policy, warm)
    keep = np.flatnonzero(miss[warm:]) + warm
    total = np.where(miss, state.end - arrival + sequences.after, path.hit_time)
    ended = float(max(state.clock.max(), arrival[-1]))
    return GenerationOutcome(
        total=total[warm:],
        first_token=(state.first - arrival + path.overhead / 2)[keep],
        gaps=state.gaps[1:],
        pre=path.pre[keep],
        queue=(state.start - sequences.ready)[keep],
        compute=(state.end - state.start)[keep],
        post=path.post[keep],
        overhead=path.overhead[keep],
        utilization=float(state.busy[0]) / (shape.replicas * ended),
        mean_running=_mean_running(state.counts, int(miss.sum())),
        largest_running=int(state.counts[kernel.LARGEST]),
        tokens_per_second=float(state.counts[kernel.TOKENS]) / ended,
    )


def _mean_running(counts: Indices, sequences: int) -> float:
    """Of the steps: each sequence's first token is its prefill's."""
    from cycleops.planner.generation import kernel  # numba: imported when it is needed

    return float(counts[kernel.TOKENS] - sequences) / max(int(counts[kernel.STEPS]), 1)
