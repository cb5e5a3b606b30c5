"""Quality of a language model as the serving engine computes it, and whether neighbours change its answers."""

import asyncio
import math
import time
from collections.abc import Sequence

import torch

from cycle_server.batching.cost import Cost
from cycle_server.batching.generation.decoder import Decoder
from cycle_server.batching.generation.sequence import End, Prompt
from cycle_server.engine.causal.model import CausalEngine
from cycle_server.engine.causal.request import BLOCK_TOKENS, Chunk
from cycle_server.profiler.generation import FOREVER_SECONDS, Endless, prompts_of
from cycle_server.token_rows import TokenRow
from cycle_wire.profile import MetricValue

NEIGHBOUR_PROMPTS = 8
NEIGHBOUR_TOKENS = 24


def evaluate_tokens(engine: CausalEngine, rows: Sequence[TokenRow], *, metrics: Sequence[str]) -> list[MetricValue]:
    """tokenAccuracy: share of the tokens that the model finds likeliest; perplexity: e to their mean cross entropy."""
    right, loss, tokens = 0, 0.0, 0
    for row in rows:
        wanted = torch.tensor(row.ids[1:])
        counted = torch.tensor(row.learned[1:])
        logits = engine.logits_of(row.ids)[:-1][counted]
        truth = wanted[counted]
        right += int((logits.argmax(dim=1) == truth).sum())
        loss += float(torch.nn.functional.cross_entropy(logits, truth, reduction="sum"))
        tokens += len(truth)
    mean = loss / max(tokens, 1)
    values = {"tokenAccuracy": right / max(tokens, 1), "perplexity": math.exp(min(mean, 700.0))}
    return [MetricValue(name=name, value=values[name], rows=len(rows)) for name in metrics]


def neighbours(engine: CausalEngine, texts: Sequence[str], *, cost: Cost) -> tuple[bool, float]:
    """Whether greedy answers are the same alone and beside others, and the largest change of a probability."""
    new = min(NEIGHBOUR_TOKENS, engine.maximum_tokens // 2)
    longest = engine.maximum_tokens - new
    prompts = [
        prompts_of(engine, [*texts[i % len(texts) :], *texts], min(4 + 7 * i, longest))[0][1]
        for i in range(NEIGHBOUR_PROMPTS)
    ]
    together = asyncio.run(_answers(engine, prompts, new, cost, at_once=True))
    alone = asyncio.run(_answers(engine, prompts, new, cost, at_once=False))
    return together == alone, _difference(engine, prompts)


async def _answers(
    engine: CausalEngine, prompts: Sequence[list[int]], new: int, cost: Cost, *, at_once: bool
) -> list[list[int]]:
    decoder = Decoder(
        engine=Endless(engine), sequences=len(prompts) if at_once else 1, cost=cost, queue_limit=len(prompts)
    )
    decoder.start()

    async def answer(tokens: list[int]) -> list[int]:
        (stream,) = decoder.submit([Prompt(tokens=tokens, new_tokens=new)], deadline=time.monotonic() + FOREVER_SECONDS)
        made = []
        while not isinstance(event := await stream.next(), End):
            made.append(event.id)
        return made

    try:
        return list(await asyncio.gather(*(answer(tokens) for tokens in prompts)))
    finally:
        await asyncio.to_thread(decoder.stop)


def _difference(engine: CausalEngine, prompts: Sequence[list[int]]) -> float:
    """Of the probabilities behind each prompt, alone and all in one step, as many as the pool holds."""
    chunks, first = [], 0
    for tokens in prompts:
        count = -(-len(tokens) // BLOCK_TOKENS)
        if first + count > engine.blocks:
            break
        chunks.append(Chunk(tokens=tokens, position=0, blocks=range(first, first + count)))
        first += count
    together = torch.softmax(engine.logits(chunks), dim=1)
    alone = torch.softmax(torch.cat([engine.logits([chunk]) for chunk in chunks]), dim=1)
    return float((together - alone).abs().max())
