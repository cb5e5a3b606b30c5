"""The decoding thread with an engine whose tokens depend on every token before, as it finds them in its blocks."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cycle_server.batching.cost import Cost
from cycle_server.batching.errors import ShedError, ShedReason
from cycle_server.batching.generation.decoder import Decoder
from cycle_server.batching.generation.observer import GenerationObserver
from cycle_server.batching.generation.sequence import End, Finish, Prompt, Stream
from cycle_server.batching.policy import Flow
from cycle_server.batching.rate import RateLimits
from cycle_server.engine.causal.request import BLOCK_TOKENS, Chunk, Sampling

END = 96
SOON = 60.0


def follows(tokens: Sequence[int]) -> int:
    return (sum((i + 1) * token for i, token in enumerate(tokens)) * 31 + 7) % 97


class Remembering:
    """``before``: called before each step with the number of its chunks; it may raise."""

    def __init__(self, *, blocks: int = 64, before: Callable[[int], None] = lambda _: None) -> None:
        self.blocks = blocks
        self.end_tokens = frozenset({END})
        self._memory = [-1] * (blocks * BLOCK_TOKENS)
        self._before = before

    def sampler(self, sampling: Sampling) -> Any:
        return sampling

    def advance(self, chunks: Sequence[Chunk], samplers: Sequence[Any]) -> list[int | ArithmeticError | None]:
        self._before(len(chunks))
        answers: list[int | ArithmeticError | None] = []
        for chunk, sampler in zip(chunks, samplers, strict=True):
            where = [
                chunk.blocks[i // BLOCK_TOKENS] * BLOCK_TOKENS + i % BLOCK_TOKENS
                for i in range(chunk.position + len(chunk.tokens))
            ]
            for place, token in zip(where[chunk.position :], chunk.tokens, strict=True):
                self._memory[place] = token
            answers.append(None if sampler is None else follows([self._memory[place] for place in where]))
        return answers


def expected(prompt: Sequence[int], new: int) -> tuple[list[int], Finish]:
    tokens = list(prompt)
    for _ in range(new):
        if (token := follows(tokens)) == END:
            return tokens[len(prompt) :], Finish.STOP
        tokens.append(token)
    return tokens[len(prompt) :], Finish.LENGTH


async def read(stream: Stream) -> tuple[list[int], Finish]:
    made = []
    while not isinstance(event := await stream.next(), End):
        made.append(event.id)
    return made, event.finish


def decoder_of(engine: Remembering, **settings: Any) -> Decoder:
    made = Decoder(
        engine=engine,
        **({"sequences": 4, "cost": Cost(fixed_seconds=1e-5, token_seconds=1e-6), "queue_limit": 64} | settings),
    )
    made.start()
    return made


class Counting(GenerationObserver):
    def __init__(self) -> None:
        self.shed_for: list[ShedReason] = []
        self.gave_up = 0

    def shed(self, reason: ShedReason) -> None:
        self.shed_for.append(reason)

    def preempted(self, sequences: int) -> None:
        self.gave_up += sequences


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 120), st.integers(1, 60)), min_size=1, max_size=12),
    st.integers(12, 40),
    st.integers(1, 6),
)
def test_every_answer_is_its_own_however_they_join_leave_and_are_preempted(
    lengths: list[tuple[int, int]], blocks: int, sequences: int
) -> None:
    prompts = [([(7 * i + j) % 90 for j in range(length)], new) for i, (length, new) in enumerate(lengths)]

    async def run() -> list[tuple[list[int], Finish]]:
        decoder = decoder_of(Remembering(blocks=blocks), sequences=sequences)
        try:
            streams = [
                decoder.submit([Prompt(tokens=tokens, new_tokens=new)], deadline=time.monotonic() + SOON)[0]
                for tokens, new in prompts
            ]
            answers = [await asyncio.wait_for(read(stream), SOON) for stream in streams]
            for _ in range(200):
                if decoder.used_blocks == 0:
                    break
                await asyncio.sleep(0.005)
            assert (decoder.running, decoder.used_blocks) == (0, 0)
            return answers
        finally:
            decoder.stop()

    assert asyncio.run(run()) == [expected(tokens, new) for tokens, new in prompts]


async def test_a_full_pool_preempts() -> None:
    counting = Counting()
    decoder = decoder_of(Remembering(blocks=10), observer=counting)
    prompts = [[i] * 30 for i in range(1, 5)]
    streams = decoder.submit(
        [Prompt(tokens=tokens, new_tokens=100) for tokens in prompts], deadline=time.monotonic() + SOON
    )
    assert [await read(stream) for stream in streams] == [expected(tokens, 100) for tokens in prompts]
    assert counting.gave_up > 0
    decoder.stop()


async def test_closing_a_stream_frees_its_place_at_the_next_step() -> None:
    decoder = decoder_of(Remembering(before=lambda _: time.sleep(0.002)), sequences=1)
    (first,) = decoder.submit([Prompt(tokens=[1], new_tokens=900)], deadline=time.monotonic() + SOON)
    (second,) = decoder.submit([Prompt(tokens=[2], new_tokens=3)], deadline=time.monotonic() + SOON)
    await first.next()
    first.close()
    assert await asyncio.wait_for(read(second), SOON) == expected([2], 3)
    decoder.stop()
    assert decoder.used_blocks == 0


@pytest.mark.parametrize("answered", [True, False])
async def test_who_was_answered_or_left_is_not_kept_until_the_deadline(answered: bool) -> None:
    held = threading.Event()
    decoder = decoder_of(Remembering(before=lambda _: None if answered else held.wait(SOON)))  # type: ignore[func-returns-value]
    streams = decoder.submit([Prompt(tokens=[1], new_tokens=3)] * 2, deadline=time.monotonic() + 3600)
    for stream in streams:
        if answered:
            await read(stream)
        stream.close()
    held.set()
    decoder.stop()
    gone = [weakref.ref(stream) for stream in streams]
    del stream, streams
    await asyncio.sleep(0)  # what the thread told the loop last
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


async def test_a_step_that_fails_costs_the_newcomer_only() -> None:
    def too_much(chunks: int) -> None:
        if chunks > 1:
            raise MemoryError("no more")
        time.sleep(0.002)

    counting = Counting()
    decoder = decoder_of(Remembering(before=too_much), observer=counting)
    (first,) = decoder.submit([Prompt(tokens=[1], new_tokens=40)], deadline=time.monotonic() + SOON)
    await first.next()
    (second,) = decoder.submit([Prompt(tokens=[2], new_tokens=40)], deadline=time.monotonic() + SOON)
    with pytest.raises(ShedError, match="memory"):
        await read(second)
    tokens, _ = await read(first)
    assert tokens == expected([1], 40)[0][1:]
    assert counting.shed_for == [ShedReason.MEMORY]
    assert not decoder.is_stuck()
    decoder.stop()


async def test_another_fault_is_told_as_it_is_and_the_thread_goes_on() -> None:
    faults = iter([ValueError("broken")])

    def fail(_: int) -> None:
        for fault in faults:
            raise fault

    decoder = decoder_of(Remembering(before=fail))
    (stream,) = decoder.submit([Prompt(tokens=[1], new_tokens=4)], deadline=time.monotonic() + SOON)
    with pytest.raises(ValueError, match="broken"):
        await read(stream)
    (stream,) = decoder.submit([Prompt(tokens=[1], new_tokens=4)], deadline=time.monotonic() + SOON)
    assert await read(stream) == expected([1], 4)
    decoder.stop()


async def test_what_cannot_begin_in_time_is_refused_or_shed_while_it_waits() -> None:
    decoder = decoder_of(Remembering(before=lambda _: time.sleep(0.02)), sequences=1)
    with pytest.raises(ShedError) as refused:
        decoder.submit([Prompt(tokens=[1], new_tokens=4)], deadline=time.monotonic() - 1)
    assert refused.value.reason is ShedReason.DEADLINE
    (first,) = decoder.submit([Prompt(tokens=[1], new_tokens=60)], deadline=time.monotonic() + SOON)
    await first.next()
    (second,) = decoder.submit([Prompt(tokens=[2], new_tokens=4)], deadline=time.monotonic() + 0.2)
    with pytest.raises(ShedError) as late:
        await read(second)
    assert late.value.reason is ShedReason.LATE
    first.close()
    decoder.stop()


async def test_a_queue_that_is_full_of_one_tenant_makes_place_for_another_and_rates_hold() -> None:
    rates = RateLimits(texts_per_second=0.01, burst=4)
    decoder = decoder_of(Remembering(before=lambda _: time.sleep(0.005)), sequences=1, queue_limit=2, rates=rates)
    flood, quiet = Flow(tenant="flood"), Flow(tenant="quiet")
    deadline = time.monotonic() + SOON

    def ask(flow: Flow) -> Stream:
        return decoder.submit([Prompt(tokens=[3], new_tokens=80)], deadline=deadline, flow=flow)[0]

    running = ask(flood)
    await running.next()
    waiting = [ask(flood), ask(flood)]
    with pytest.raises(ShedError) as full:
        ask(flood)
    assert full.value.reason is ShedReason.QUEUE
    other = ask(quiet)
    with pytest.raises(ShedError) as displaced:
        await read(waiting[1])
    assert displaced.value.reason is ShedReason.DISPLACED
    with pytest.raises(ShedError) as limited:
        ask(flood)
    assert limited.value.reason is ShedReason.RATE
    for stream in (running, waiting[0], other):
        stream.close()
    decoder.stop()


async def test_a_thread_that_hangs_is_stuck_and_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cycle_server.batching.generation.decoder.STUCK_SECONDS", 0.1)
    hold = [True]

    def wait(_: int) -> None:
        while hold[0]:
            time.sleep(0.005)

    decoder = decoder_of(Remembering(before=wait))
    (stream,) = decoder.submit([Prompt(tokens=[1], new_tokens=4)], deadline=time.monotonic() + SOON)
    await asyncio.sleep(0.4)
    assert decoder.is_stuck()
    with pytest.raises(ShedError) as stuck:
        decoder.submit([Prompt(tokens=[1], new_tokens=4)], deadline=time.monotonic() + SOON)
    assert stuck.value.reason is ShedReason.STUCK
    hold[0] = False
    assert await read(stream) == expected([1], 4)
    assert not decoder.is_stuck()
    decoder.stop()
