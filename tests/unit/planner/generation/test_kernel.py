"""Continuous batching: against theory where there is a closed form, and against the rule written down plainly."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cycle_wire.profile import bucket_of
from cycleops.planner.generation import kernel
from cycleops.planner.generation.rules import Admission, Sequences, Steps
from cycleops.planner.simulation.fleet import ring_of

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def sequences(
    arrival: Array,
    *,
    prompt: Indices,
    output: Indices,
    prefill: Array,
    ready: Array | None = None,
    dispatcher: Indices | None = None,
    queued: NDArray[np.bool_] | None = None,
    spread: Array | None = None,
) -> Sequences:
    count = len(arrival)
    return Sequences(
        arrival=arrival,
        ready=arrival.copy() if ready is None else ready,
        after=np.zeros(count),
        queued=np.ones(count, dtype=bool) if queued is None else queued,
        prompt=prompt,
        output=output,
        prefill=prefill,
        dispatcher=np.zeros(count, dtype=np.int64) if dispatcher is None else dispatcher,
        spread=np.zeros(count) if spread is None else spread,
    )


def steps_of(seconds: Array, *, shared: float = 0.0, luck: Array | None = None) -> Steps:
    """``seconds`` by how many decode (index 0 is not used), however long they are."""
    table = np.ascontiguousarray(np.repeat(seconds[:, None], 3, axis=1))
    return Steps(seconds=table, width=1e6, luck=np.ones(1) if luck is None else luck, shared=shared)


def run(
    given_: Sequences,
    steps: Steps,
    *,
    most: int,
    replicas: int = 1,
    policy: int = kernel.ROUND_ROBIN,
    dispatchers: int = 1,
    prompt_tokens: int = 1_000_000,
    warm_up: int = 0,
) -> kernel.State:
    state = kernel.new_state(given_, replicas=replicas, dispatchers=dispatchers, most_sequences=most)
    kernel.run_together(state, given_, steps, Admission(most, prompt_tokens), ring_of(replicas), policy, warm_up)
    return state


def poisson(count: int, rate: float, *, mean_output: float, prefill: float = 0.0, seed: int = 3) -> Sequences:
    stream = np.random.default_rng(seed)
    gaps = stream.exponential(1, count)
    return sequences(
        np.cumsum(gaps / gaps.mean()) / rate,
        prompt=np.full(count, 10),
        output=stream.geometric(1 / mean_output, count),
        prefill=np.full(count, prefill),
    )


def test_one_at_a_time_is_mg1() -> None:
    """Pollaczek-Khinchine, with the moments of what was drawn."""
    given_ = poisson(400_000, 1.0, mean_output=100, prefill=0.1)
    state = run(given_, steps_of(np.full(2, 0.005)), most=1)
    service = 0.1 + (given_.output - 1) * 0.005
    wait = (service**2).mean() / (2 * (1 - service.mean()))
    assert (state.start - given_.arrival).mean() == pytest.approx(wait, rel=0.02)
    assert state.end - state.start == pytest.approx(service)


def test_without_a_limit_and_with_steps_of_one_length_is_mg_infinity() -> None:
    """Nobody waits but for the step that is under way, and for the one that computes its prompt with the others."""
    given_ = poisson(100_000, 1.0, mean_output=400)
    state = run(given_, steps_of(np.full(301, 0.005)), most=300)
    seconds = (given_.output - 1) * 0.005
    excess = state.end - given_.arrival - seconds
    assert (state.end - given_.arrival).mean() == pytest.approx(seconds.mean(), rel=0.02)
    assert excess.min() >= -1e-6
    assert excess.max() <= 2 * 0.005 + 1e-6
    # Little's law: as many are under way as the offered load is.
    busy = state.counts[kernel.TOKENS] - len(given_.arrival)
    assert busy / state.counts[kernel.STEPS] == pytest.approx(seconds.mean() / (1 - np.exp(-seconds.mean())), rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_steps_that_grow_with_their_number_are_processor_sharing(load: float) -> None:
    """M/G/1-PS: the mean is E[S] / (1 - load), whatever the distribution of S (L. Kleinrock, volume II)."""
    count = 400_000 if load > 0.7 else 150_000
    given_ = poisson(count, 1.0, mean_output=200)
    each = load / (given_.output - 1).mean()
    state = run(given_, steps_of(np.arange(401) * each), most=400)
    seconds = (given_.output - 1) * each
    expected = seconds.mean() / (1 - seconds.mean())
    assert (state.end - given_.arrival).mean() == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("policy", [kernel.ROUND_ROBIN, kernel.LEAST_CONNECTIONS, 150])
def test_tokens_are_conserved(policy: int) -> None:
    """Each request gets as many tokens as its answer has, on the replica that it was given to, and no step is lost."""
    stream = np.random.default_rng(5)
    count = 5_000
    queued = stream.random(count) > 0.2
    given_ = sequences(
        np.cumsum(stream.exponential(0.025, count)),
        prompt=stream.integers(1, 600, count),
        output=stream.integers(1, 80, count),
        prefill=0.005 + stream.random(count) * 0.02,
        dispatcher=stream.integers(0, 2, count),
        queued=queued,
        spread=stream.random(count),
    )
    steps = steps_of(0.002 + 0.001 * np.arange(9), shared=0.001)
    state = run(given_, steps, most=8, replicas=3, policy=policy, dispatchers=2, prompt_tokens=256)
    assert state.counts[kernel.TOKENS] == given_.output[queued].sum()
    assert (state.missing[queued] == 0).all()
    assert set(state.chosen) == {0, 1, 2}
    assert (state.start[queued] >= given_.ready[queued] - 1e-12).all()
    assert (state.first[queued] > state.start[queued]).all()
    assert (state.end[queued] >= state.first[queued] + (given_.output[queued] - 1) * 0.003 - 1e-9).all()
    assert state.gaps.sum() == (given_.output[queued] - 1).sum()
    assert state.context.sum() == state.decoding.sum() == state.under_way.sum() == 0
    assert state.counts[kernel.LARGEST] == 8


def test_least_connections_waits_less_than_round_robin() -> None:
    given_ = poisson(20_000, 10.0, mean_output=60)
    steps = steps_of(0.001 + 0.004 * np.arange(5))
    waits = {
        policy: (run(given_, steps, most=4, replicas=4, policy=policy).start - given_.arrival).mean()
        for policy in (kernel.ROUND_ROBIN, kernel.LEAST_CONNECTIONS)
    }
    assert waits[kernel.LEAST_CONNECTIONS] < waits[kernel.ROUND_ROBIN]


def test_a_step_takes_what_the_sequences_are_long() -> None:
    """One sequence with a prompt of 10: its n-th step sees 10 + n tokens."""
    given_ = sequences(np.array([1.0]), prompt=np.array([10]), output=np.array([5]), prefill=np.array([0.5]))
    table = np.array([[0.0] * 3, [0.0, 1.0, 2.0]])  # a step takes its context / 100 seconds
    luck = np.array([1.0])
    state = run(given_, Steps(seconds=table, width=100.0, luck=luck, shared=0.0), most=1)
    assert state.first[0] == pytest.approx(1.5)
    assert state.end[0] == pytest.approx(1.5 + (11 + 12 + 13 + 14) / 100)


def test_gaps_between_tokens_are_counted_in_stretches() -> None:
    """Two answers of three tokens, one after the other: the first is the warm-up, the second has two gaps of 10 ms."""
    given_ = sequences(np.array([1.0, 2.0]), prompt=np.full(2, 10), output=np.array([4, 3]), prefill=np.full(2, 0.1))
    state = run(given_, steps_of(np.array([0.0, 0.01])), most=1, warm_up=1)
    assert state.gaps.sum(axis=1)[:2].tolist() == [3, 2]
    assert np.flatnonzero(state.gaps[1]).tolist() == [bucket_of(0.01)]
