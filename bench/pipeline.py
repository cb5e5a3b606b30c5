"""Do pre, compute and post of different requests overlap, and what does it cost a single one?

    python -m tests.images.run server -- python -m bench.pipeline

all-MiniLM's shapes with random weights in bfloat16, a tokenizer of 20,000 words, one torch thread; no HTTP. Each client
sends its next request when it has the answer. Ways: "one thread" does everything in turn, as a plain framework with
batching does; "overlapped" is our server: requests are read, tokenized and answered on the event loop while the compute
thread computes; "all threads" sends pre and post of each request to a pool. Ways take turns.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from bench.kernels import CANDIDATES, CLASSES, make_encoder
from cycle_server.batching.batcher import Batcher
from cycle_server.batching.cost import Cost
from cycle_server.batching.policy import Limits
from cycle_server.engine.pipeline import Engine, configure_process
from cycle_server.items import Items
from cycle_server.load.arrivals import LengthDistribution
from cycle_server.protocol import v2

BATCH_SIZE, BUDGET_SECONDS, WORDS = 8, 60.0, 20_000
LENGTHS = LengthDistribution(p50=16, p99=48)
Answer = Callable[[bytes], Awaitable[bytes]]


class Stages:
    """The server's three steps on one model."""

    def __init__(self) -> None:
        self.words = [f"w{number}" for number in range(WORDS)]
        tokenizer = Tokenizer(WordPiece({"[UNK]": 0} | {word: i + 1 for i, word in enumerate(self.words)}))
        tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
        labels = [f"class.{number}" for number in range(CLASSES)]
        self._engine = SimpleNamespace(tokenizer=tokenizer, manifest=SimpleNamespace(labels=labels))
        self._encoder = make_encoder(*CANDIDATES["bf16 packed"])

    def pre(self, body: bytes) -> tuple[v2.InferRequest, Items]:
        request = v2.parse_infer(body)
        return request, Engine.pre(self._engine, request.texts)  # type: ignore[arg-type]

    def compute(self, tokens: Sequence[Sequence[int]], /) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self._encoder.logits(tokens).numpy()
        return logits

    def post(self, request: v2.InferRequest, logits: np.ndarray) -> bytes:
        answers = Engine.post(self._engine, logits)  # type: ignore[arg-type]
        return v2.infer_response(
            model_name="m",
            model_version="1",
            request=request,
            labels=answers.labels,
            probability=answers.probability,
            probabilities=[],
        )


class OneThread:
    """Takes what waits, up to a batch, and does pre, compute and post of it in turn on the thread of the event loop."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._waiting: list[tuple[bytes, asyncio.Future[bytes]]] = []

    async def __call__(self, body: bytes) -> bytes:
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, done))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._run)
        return await done

    def _run(self) -> None:
        batch, self._waiting = self._waiting[:BATCH_SIZE], self._waiting[BATCH_SIZE:]
        read = [self._stages.pre(body) for body, _ in batch]
        logits = self._stages.compute([tokens[0] for _, tokens in read])
        for index, ((_, done), (request, _)) in enumerate(zip(batch, read, strict=True)):
            done.set_result(self._stages.post(request, logits[index : index + 1]))
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._run)


def overlapped(stages: Stages, batcher: Batcher) -> Answer:
    async def answer(body: bytes) -> bytes:
        request, tokens = stages.pre(body)
        computed = await batcher.submit(tokens, deadline=time.monotonic() + BUDGET_SECONDS)
        return stages.post(request, computed.logits)

    return answer


def all_threads(stages: Stages, batcher: Batcher) -> Answer:
    async def answer(body: bytes) -> bytes:
        request, tokens = await asyncio.to_thread(stages.pre, body)
        computed = await batcher.submit(tokens, deadline=time.monotonic() + BUDGET_SECONDS)
        return await asyncio.to_thread(stages.post, request, computed.logits)

    return answer


async def closed_loop(answer: Answer, bodies: Sequence[bytes], *, clients: int, seconds: float) -> list[float]:
    """Seconds of each request."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def client(number: int) -> None:
        source = random.Random(number)
        while (started := time.perf_counter()) < until:
            await answer(bodies[source.randrange(len(bodies))])
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return times


async def compare(stages: Stages, bodies: Sequence[bytes], *, clients: int, seconds: float, turns: int) -> None:
    batcher = Batcher(
        compute=stages.compute,
        limits=Limits(maximum_batch_size=BATCH_SIZE, maximum_delay_seconds=0.0),
        cost=Cost(fixed_seconds=0.001, token_seconds=0.0002),
        queue_limit=1024,
    )
    batcher.start()
    ways: dict[str, Answer] = {
        "one thread": OneThread(stages),
        "overlapped": overlapped(stages, batcher),
        "all threads": all_threads(stages, batcher),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):  # the first warms up
        for name, answer in ways.items():
            taken = await closed_loop(answer, bodies, clients=clients, seconds=seconds)
            if turn:
                rates[name].append(len(taken) / seconds)
                times[name] += taken
    await asyncio.to_thread(batcher.stop)
    for name in ways:
        ratios = [rate / base for rate, base in zip(rates[name], rates["one thread"], strict=True)]
        p50, p99 = np.quantile(times[name], [0.5, 0.99]) * 1000
        print(
            f"{clients:>7} {name:<12} {statistics.median(rates[name]):8.0f} {statistics.median(ratios):8.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f}) {p50:8.2f} {p99:8.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each way in each turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--cores", type=int, default=2, help="that the process may use")
    parser.add_argument("--switch-interval", type=float, default=sys.getswitchinterval(), help="seconds, of the GIL")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    sys.setswitchinterval(options.switch_interval)
    configure_process(threads=1)
    stages, source = Stages(), random.Random(1)
    bodies = [v2.infer_request(" ".join(source.choices(stages.words, k=LENGTHS.sample(source)))) for _ in range(512)]
    print(f"{options.cores} cores, switch interval {options.switch_interval * 1000:g} ms")
    print("clients way           texts/s  against one thread   p50 ms   p99 ms")
    for clients in options.clients:
        asyncio.run(compare(stages, bodies, clients=clients, seconds=options.seconds, turns=options.turns))


if __name__ == "__main__":
    main()
