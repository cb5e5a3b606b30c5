"""A language model's Profile: how well it predicts, and how long tokens take with so many answers under way.

Times are of the real decoder with the real engine. Answers are asked for as fast as they end, each with as many tokens
as the row says; the first ones are shorter, so that later on they don't begin and end together.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic_core import to_json

from cycle_server.batching.cost import Cost
from cycle_server.batching.generation.decoder import Decoder
from cycle_server.batching.generation.sequence import End, Prompt
from cycle_server.engine.causal.model import CausalEngine
from cycle_server.protocol import generation
from cycle_wire.profile import GenerationRow, Histogram

OUTPUT_TOKENS = 64
CELL_SECONDS = 2.0  # of each (concurrency, prompt), and longer until each place has had an answer
LONGEST_SECONDS = 60.0
PROMPTS = 16
FOREVER_SECONDS = 3600.0


class Endless:
    """The engine, but no token ends an answer: random or not, each has its full length."""

    end_tokens: frozenset[int] = frozenset()

    def __init__(self, engine: CausalEngine) -> None:
        self.blocks = engine.blocks
        self.sampler = engine.sampler
        self.advance = engine.advance


@dataclass
class _Times:
    """Seconds; ``prompts``: texts and their token ids."""

    prompts: Sequence[tuple[str, list[int]]]
    output_tokens: int
    pre: list[float] = field(default_factory=list)
    first_token: list[float] = field(default_factory=list)
    per_token: list[float] = field(default_factory=list)
    post: list[float] = field(default_factory=list)


def measure_generation(
    engine: CausalEngine,
    texts: Sequence[str],
    *,
    cost: Cost,
    concurrencies: Sequence[int],
    prompt_lengths: Sequence[int],
) -> list[GenerationRow]:
    """Prompts and answers are shortened to what fits the model together."""
    output_tokens = min(OUTPUT_TOKENS, max(engine.maximum_tokens // 2, 1))
    lengths = sorted({min(length, engine.maximum_tokens - output_tokens) for length in prompt_lengths if length > 0})
    return [
        asyncio.run(_measure(engine, texts, cost, concurrency, length, output_tokens))
        for concurrency, length in itertools.product(sorted(set(concurrencies)), lengths)
    ]


async def _measure(
    engine: CausalEngine, texts: Sequence[str], cost: Cost, concurrency: int, length: int, output_tokens: int
) -> GenerationRow:
    decoder = Decoder(engine=Endless(engine), sequences=concurrency, cost=cost, queue_limit=concurrency)
    decoder.start()
    times = _Times(prompts=prompts_of(engine, texts, length), output_tokens=output_tokens)
    try:
        until = time.monotonic() + CELL_SECONDS
        await asyncio.wait_for(
            asyncio.gather(*(_place(engine, decoder, times, i, concurrency, until) for i in range(concurrency))),
            LONGEST_SECONDS * 10,
        )
    finally:
        await asyncio.to_thread(decoder.stop)
    return GenerationRow(
        concurrency=concurrency,
        prompt_tokens=length,
        output_tokens=output_tokens,
        pre=Histogram.of(times.pre),
        first_token=Histogram.of(times.first_token),
        per_token=Histogram.of(times.per_token),
        post=Histogram.of(times.post),
    )


async def _place(engine: CausalEngine, decoder: Decoder, times: _Times, index: int, places: int, until: float) -> None:
    """One answer after the other. The first isn't counted: its length spreads the places over time."""
    first = max(times.output_tokens * (index + 1) // places, 1)
    await _answer(engine, decoder, times, index, new_tokens=first, counted=False)
    for turn in itertools.count(1):
        await _answer(engine, decoder, times, index + turn * places, new_tokens=times.output_tokens, counted=True)
        if time.monotonic() > until:
            return


async def _answer(
    engine: CausalEngine, decoder: Decoder, times: _Times, turn: int, *, new_tokens: int, counted: bool
) -> None:
    text, tokens = times.prompts[turn % len(times.prompts)]
    body = b'{"prompt":' + to_json(text) + b"}"
    started = time.perf_counter()
    wishes = generation.parse_generate(body).all_wishes
    engine.encode(text)
    pre = time.perf_counter() - started

    prompt = Prompt(tokens=tokens, new_tokens=new_tokens, sampling=wishes.sampling)
    (stream,) = decoder.submit([prompt], deadline=time.monotonic() + FOREVER_SECONDS)
    made = []
    while not isinstance(event := await stream.next(), End):
        made.append(event)
    if not counted:
        return
    started = time.perf_counter()
    detokenizer = engine.detokenizer()
    answer = "".join([*(detokenizer.add(token.id) for token in made), detokenizer.rest()])
    usage = generation.Usage(prompt=len(tokens), answer=len(made))
    generation.generate_response(model="profile", version="profile", text=answer, finish=event.finish, usage=usage)
    times.post.append(time.perf_counter() - started)
    times.pre.append(pre)
    times.first_token.append(made[0].at - made[0].started)
    times.per_token += [later.at - earlier.at for earlier, later in itertools.pairwise(made)]


def prompts_of(engine: CausalEngine, texts: Sequence[str], length: int) -> list[tuple[str, list[int]]]:
    """Texts of exactly ``length`` tokens, joined from those given."""
    prompts = []
    source = itertools.cycle(texts)
    for _ in range(PROMPTS):
        tokens: list[int] = []
        while len(tokens) < length:
            tokens += engine.encode(next(source))
        tokens = tokens[:length]
        detokenizer = engine.detokenizer()
        prompts.append(("".join(detokenizer.add(token) for token in tokens), tokens))
    return prompts
