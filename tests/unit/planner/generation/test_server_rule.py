"""The simulated replica against the server's own decisions (cycle_server.batching.generation.plan), in virtual time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cycle_server.batching.cost import Cost
from cycle_server.batching.generation.plan import STEP_TOKENS, Asked, Progress, Room, admit, compose
from cycleops.planner.generation import kernel
from cycleops.planner.generation.rules import Admission, Sequences, Steps
from cycleops.planner.model import PROMPT_TOKENS_PER_STEP
from cycleops.planner.simulation.fleet import ring_of

Array = NDArray[np.float64]
BLOCK_TOKENS, BLOCKS = 16, 1_000_000  # a pool that is never full
COST = Cost(fixed_seconds=0.0, token_seconds=0.0)  # nobody is late


def test_prompts_share_as_many_tokens_of_a_step() -> None:
    assert PROMPT_TOKENS_PER_STEP == STEP_TOKENS


def served(asked: Sequences, seconds: Array, *, shared: float, most: int) -> Array:
    """What the server decides when its steps take what the simulation says: [start, first, last token] of each."""
    count = len(asked.arrival)
    computed, answered = np.zeros(count, dtype=int), np.zeros(count, dtype=int)
    found, waiting, running, now = np.zeros((count, 3)), list(np.argsort(asked.ready)), list[int](), 0.0
    while waiting or running:
        if not running:
            now = max(now, asked.ready[waiting[0]])
        there = [i for i in waiting if asked.ready[i] <= now]
        room = Room(places=most - len(running), blocks=BLOCKS, block_tokens=BLOCK_TOKENS)
        joining = [_asked(asked, i) for i in there]
        for index in admit(joining, now=now, room=room, cost=COST).take:
            found[there[index], 0] = now
            running.append(there[index])
            waiting.remove(there[index])
        running.sort(key=lambda i: asked.ready[i])
        progress = [
            Progress(tokens=int(asked.prompt[i] + answered[i]), computed=int(computed[i]), blocks=0) for i in running
        ]
        counts = compose(progress, free_blocks=BLOCKS, block_tokens=BLOCK_TOKENS).counts
        decoding = sum(answered[i] > 0 for i in running)
        prompts = [
            asked.prefill[i] * n / asked.prompt[i]
            for i, n in zip(running, counts, strict=True)
            if n and not answered[i]
        ]
        once = len(prompts) - (0 if decoding else 1)
        now += (seconds[decoding] if decoding else 0.0) + (max(sum(prompts) - once * shared, 0.0) if prompts else 0.0)
        for i, n in zip(list(running), counts, strict=True):
            computed[i] += n
            if n and computed[i] == asked.prompt[i] + answered[i]:
                answered[i] += 1
                found[i, 1] = now if answered[i] == 1 else found[i, 1]
                if answered[i] == asked.output[i]:
                    found[i, 2] = now
                    running.remove(i)
    return found


def _asked(asked: Sequences, i: int) -> Asked:
    prompt, ready = int(asked.prompt[i]), float(asked.ready[i])
    tokens = prompt + int(asked.output[i])
    return Asked(texts=1, tokens=tokens, arrival=ready, deadline=math.inf, turn=ready, prompt=prompt)


@settings(max_examples=60)
@given(data=st.data())
def test_one_replica_does_what_the_server_decides(data: st.DataObject) -> None:
    count, most = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 6))
    stream = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    arrival = np.cumsum(stream.exponential(data.draw(st.sampled_from([0.001, 0.02, 0.2])), count))
    asked = Sequences(
        arrival=arrival,
        ready=arrival + stream.random(count) * 0.01,
        after=np.zeros(count),
        queued=np.ones(count, dtype=bool),
        prompt=stream.integers(2, data.draw(st.sampled_from([20, 200, 900])), count),
        output=stream.integers(1, 12, count),
        prefill=stream.random(count) * 0.05,
        dispatcher=np.zeros(count, dtype=np.int64),
        spread=np.zeros(count),
    )
    seconds, shared = 0.003 + 0.002 * np.arange(most + 1), data.draw(st.sampled_from([0.0, 0.002]))
    table = np.ascontiguousarray(np.repeat(seconds[:, None], 3, axis=1))
    steps = Steps(seconds=table, width=1e6, luck=np.ones(1), shared=shared)
    state = kernel.new_state(asked, replicas=1, dispatchers=1, most_sequences=most)
    kernel.run_together(state, asked, steps, Admission(most, STEP_TOKENS), ring_of(1), kernel.ROUND_ROBIN, 0)
    expected = served(asked, seconds, shared=shared, most=most)
    assert np.stack([state.start, state.first, state.end], axis=1) == pytest.approx(expected)
