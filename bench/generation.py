"""Continuous batching beside the ways transformers has: one by one, in static batches, and its own continuous batching.

    python -m tests.images.run server -- python -m bench.generation

One model with random weights, one thread, float32, greedy; the same requests of mixed lengths, all there at the start.
Times are CPU seconds of the process, because on a shared machine waiting for a core isn't the way's fault; the ways
take turns. A static batch pads its prompts and goes on until its longest answer ends; what is beyond a request's own
length isn't counted. First token: from the start until a request's first token is there, in a queue of all requests.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList
from transformers.generation import ContinuousBatchingConfig

from cycle_server.batching.generation.decoder import Decoder
from cycle_server.batching.generation.sequence import End, Prompt
from cycle_server.engine.causal.model import CausalEngine
from cycle_server.profiler.generation import Endless
from cycle_server.server.generator import warm_up
from cycle_wire.parts import Task, Variant
from cycle_wire.variant import VariantManifest

SHAPES = {
    "small": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 8},
    "smollm2-135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9},
}
KEY_HEADS = {"small": 4, "smollm2-135m": 3}
VOCABULARY = 8192
CONTEXT = 512


@dataclass(frozen=True)
class Request:
    prompt: list[int]
    new: int


@dataclass(frozen=True)
class Result:
    """CPU seconds: of all, and of each request's first token."""

    seconds: float
    first: Sequence[float]
    tokens: Sequence[list[int]]


def requests(count: int, *, seed: int) -> list[Request]:
    source = random.Random(seed)
    return [
        Request(
            prompt=[
                source.randrange(5, VOCABULARY) for _ in range(min(max(int(source.lognormvariate(3.2, 0.8)), 2), 200))
            ],
            new=min(max(int(source.expovariate(1 / 32)), 2), 128),
        )
        for _ in range(count)
    ]


def write_model(folder: Path, shape: str) -> None:
    """A variant as the trainer writes it, with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        num_key_value_heads=KEY_HEADS[shape],
        tie_word_embeddings=True,
        eos_token_id=None,
        **SHAPES[shape],
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
    manifest = VariantManifest(
        variant=Variant(name="fp32"),
        task=Task.LANGUAGE_MODELING,
        model_digest="sha256:" + "0" * 64,
        weights_digest="sha256:" + "0" * 64,
        size_bytes=0,
        parameters=0,
        sparsity=0.0,
        maximum_sequence_length=CONTEXT,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


class FirstStep(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped here
    def __init__(self) -> None:
        self.at: float | None = None

    def __call__(self, ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        self.at = self.at or time.process_time()
        return torch.zeros(ids.shape[0], dtype=torch.bool)


def static(model: Any, asked: Sequence[Request], size: int) -> Result:
    started, first, tokens = time.process_time(), [], []
    for i in range(0, len(asked), size):
        batch = asked[i : i + size]
        longest = max(len(request.prompt) for request in batch)
        ids = torch.tensor([[0] * (longest - len(r.prompt)) + r.prompt for r in batch])
        mask = torch.tensor([[0] * (longest - len(r.prompt)) + [1] * len(r.prompt) for r in batch])
        step = FirstStep()
        out = model.generate(
            ids,
            attention_mask=mask,
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=max(r.new for r in batch), pad_token_id=0, eos_token_id=None
            ),
            stopping_criteria=StoppingCriteriaList([step]),
        )
        assert step.at is not None
        first += [step.at - started] * len(batch)
        tokens += [row[longest : longest + r.new].tolist() for row, r in zip(out, batch, strict=True)]
    return Result(time.process_time() - started, first, tokens)


def theirs(model: Any, asked: Sequence[Request], size: int) -> Result:
    """transformers' ContinuousBatchingManager, which has a thread of its own."""
    settings = GenerationConfig(do_sample=False, max_new_tokens=128, eos_token_id=-1, pad_token_id=0)
    pages = ContinuousBatchingConfig(
        page_size=16, num_blocks=size * CONTEXT // 16, max_batch_tokens=256, max_requests_per_batch=size
    )
    manager = model.init_continuous_batching(generation_config=settings, continuous_batching_config=pages)
    manager.start()
    started = time.process_time()
    names = [manager.add_request(r.prompt, max_new_tokens=r.new, streaming=True, eos_token_id=-1) for r in asked]
    first: dict[str, float] = {}
    done: dict[str, list[int]] = {}
    while len(done) < len(asked):
        result = manager.get_result(timeout=60)
        assert result is not None, "it ended early"
        first.setdefault(result.request_id, time.process_time() - started)
        if result.is_finished():
            done[result.request_id] = list(result.generated_tokens)
    seconds = time.process_time() - started
    manager.stop(block=True)
    return Result(seconds, [first[name] for name in names], [done[name] for name in names])


def ours(engine: CausalEngine, asked: Sequence[Request], size: int) -> Result:
    cost = warm_up(engine, sequences=size)

    async def run() -> Result:
        decoder = Decoder(engine=Endless(engine), sequences=size, cost=cost, queue_limit=len(asked))
        decoder.start()
        started = time.process_time()
        deadline = time.monotonic() + 3600

        async def one(request: Request) -> tuple[float, list[int]]:
            (stream,) = decoder.submit([Prompt(tokens=request.prompt, new_tokens=request.new)], deadline=deadline)
            first, made = 0.0, []
            while not isinstance(event := await stream.next(), End):
                first = first or time.process_time() - started
                made.append(event.id)
            return first, made

        answers = await asyncio.gather(*(one(request) for request in asked))
        seconds = time.process_time() - started
        await asyncio.to_thread(decoder.stop)
        return Result(seconds, [first for first, _ in answers], [made for _, made in answers])

    return asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--at-once", type=int, default=8, help="sequences of a batch, and under way at once")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    asked = requests(options.requests, seed=1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(folder, options.shape)
        engine = CausalEngine(folder, threads=1, pool_bytes=1 << 30, sequences=options.at_once, verify=False)
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    size = options.at_once
    ways: dict[str, Callable[[], Result]] = {
        "generate, one by one": lambda: static(model, asked, 1),
        f"generate, batches of {size}": lambda: static(model, asked, size),
        f"transformers' continuous batching, {size}": lambda: theirs(model, asked, size),
        f"ours, {size}": lambda: ours(engine, asked, size),
    }
    results: dict[str, list[Result]] = {name: [] for name in ways}
    with torch.no_grad():
        for turn in range(options.turns + 1):  # the first warms up
            for name, way in ways.items():
                result = way()
                if turn:
                    results[name].append(result)
    tokens = sum(request.new for request in asked)
    alone = results["generate, one by one"][0].tokens
    print(f"{options.shape}: {len(asked)} requests, {tokens} tokens of answers, {options.turns} turns, medians")
    print(f"{'':<44}{'tokens/s':>10}{'first token p50, s':>20}{'p99':>8}{'answers as one by one':>24}")
    for name, turns in results.items():
        rate = tokens / statistics.median(result.seconds for result in turns)
        p50 = statistics.median(statistics.median(result.first) for result in turns)
        p99 = statistics.median(sorted(result.first)[int(0.99 * len(asked))] for result in turns)
        same = sum(mine == other for mine, other in zip(turns[0].tokens, alone, strict=True))
        print(f"{name:<44}{rate:>10.1f}{p50:>20.2f}{p99:>8.2f}{f'{same} of {len(asked)}':>24}")


if __name__ == "__main__":
    main()
