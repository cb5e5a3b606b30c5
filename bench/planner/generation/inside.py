"""What runs in the image: profiling, and the load. The server has a core for itself; sidecar and client have the other.

python -m bench.planner.generation.inside profile --out FOLDER
python -m bench.planner.generation.inside load --out FOLDER --seconds 60
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientError, ClientSession
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from bench.generation import VOCABULARY, write_model
from bench.planner.generation.scenarios import (
    INPUT_TOKENS_P50,
    INPUT_TOKENS_P99,
    LONGEST_INPUT,
    LONGEST_OUTPUT,
    OUTPUT_TOKENS_P50,
    OUTPUT_TOKENS_P99,
    SCENARIOS,
    SEQUENCES,
    VARIANT,
    Scenario,
)
from bench.planner.validate.files import Files, Measured, now
from bench.planner.validate.generator import JSON, Array, Seen, open_loop, session
from bench.planner.validate.pods import MODEL_NAME, NEVER_SHED_MILLISECONDS, START_SECONDS, Cores, command, running
from bench.serve.machine import Disturbance, processes_of
from cycle_server.load.arrivals import LengthDistribution
from cycle_server.profiler.http import free_port
from cycle_server.profiler.main import profile_variant, summary
from cycle_wire.parts import Evaluation, Fields, Variant
from cycle_wire.serving import ProfileVariant, ProfilingConfig, ServerConfig, SidecarConfig
from cycle_wire.training import JobIdentity
from cycle_wire.variant import VariantManifest

EVALUATION_ROWS, ROW_TOKENS = 40, 40
MOST_WAITING = 10_000


def variant_folder(files: Files) -> tuple[Path, VariantManifest]:
    """bench.generation's small Llama with random weights, and a tokenizer in which each word is a token."""
    folder = files.variants / "generating"
    file = folder / "manifest.json"
    if not file.exists():
        folder.mkdir(parents=True)
        write_model(folder, "small")
        words = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
        words.pre_tokenizer, words.decoder = WhitespaceSplit(), decoders.WordPiece(prefix="##")
        PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
        weights = (folder / "model.safetensors").read_bytes()
        digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
        made = VariantManifest.model_validate_json(file.read_bytes())
        sizes = {"model_digest": digest, "weights_digest": digest, "size_bytes": len(weights)}
        file.write_text(made.model_copy(update=sizes).to_json(), encoding="utf-8")
    return folder, VariantManifest.model_validate_json(file.read_bytes())


def words_of(stream: random.Random, count: int) -> str:
    return " ".join(f"w{stream.randrange(1, VOCABULARY)}" for _ in range(count))


def profile(files: Files, cores: Cores) -> None:
    """The profiler itself, on the server's core."""
    folder, manifest = variant_folder(files)
    evaluation, stream = Path(tempfile.mkdtemp()) / "rows.jsonl", random.Random(1)
    rows = (json.dumps({"text": words_of(stream, ROW_TOKENS)}) for _ in range(EVALUATION_ROWS))
    evaluation.write_text("\n".join(rows), encoding="utf-8")
    config = ProfilingConfig(
        job=JobIdentity(namespace="bench", name="planner", uid="0"),
        model_digest=manifest.model_digest,
        variants=[ProfileVariant(variant=Variant(name=VARIANT), path=str(folder))],
        evaluation_path=str(evaluation),
        fields=Fields(),
        evaluation=Evaluation(metrics=["tokenAccuracy"]),
        batch_sizes=[1, 2, 4, SEQUENCES],
        sequence_lengths=[8, 24, LONGEST_INPUT],
        hardware_class="bench",
        hardware_class_hash="bench",
        image="bench",
    )
    os.sched_setaffinity(0, {cores.pods})
    made = profile_variant(config, config.variants[0])
    files.profile(VARIANT).write_text(made.to_json(), encoding="utf-8")
    print(f"{time.strftime('%T')} {summary(made)}", flush=True)


@contextmanager
def pod(files: Files, scratch: Path, cores: Cores) -> Iterator[tuple[str, set[int]]]:
    """The sidecar's address, and the process groups of both."""
    folder, manifest = variant_folder(files)
    server = ServerConfig(
        model_name=MODEL_NAME,
        variant_path=str(folder),
        model_digest=manifest.model_digest,
        variant=VARIANT,
        maximum_batch_size=SEQUENCES,
        budget_milliseconds=NEVER_SHED_MILLISECONDS,
        queue_limit=MOST_WAITING,
        threads=1,
        port=free_port(),
        drain_seconds=0,
    )
    sidecar = SidecarConfig(
        upstream=f"http://127.0.0.1:{server.port}",
        port=free_port(),
        model_digest=manifest.model_digest,
        variant=VARIANT,
        size_bytes=0,
        drain_seconds=0,
    )
    with (
        running(command("serve", server, scratch), core=cores.pods) as one,
        running(command("sidecar", sidecar, scratch), core=cores.outside) as two,
    ):
        yield f"http://127.0.0.1:{sidecar.port}/v1/completions", {one, two}


@dataclass
class Tokens:
    """Seconds. ``first``: from the intended moment, by the number of the request; ``gaps``: between two tokens."""

    first: Array
    gaps: list[float] = field(default_factory=list)

    async def ask(self, client: ClientSession, url: str, body: bytes, index: int, intended: float, seen: Seen) -> None:
        """Of a streamed answer when each of its tokens came."""
        seen.lag[index] = time.perf_counter() - intended
        lines: list[tuple[float, bytes]] = []
        try:
            async with client.post(url, data=body, headers=JSON) as response:
                async for line in response.content:
                    lines.append((time.perf_counter(), line))
                ended = time.perf_counter()
        except (ClientError, TimeoutError):
            return
        times = [at for at, line in lines if line.startswith(b"data: {") and _has_text(line)]
        if response.status == 200 and times:
            seen.total[index], self.first[index] = ended - intended, times[0] - intended
            self.gaps += np.diff(times).tolist()


def _has_text(line: bytes) -> bool:
    choices = json.loads(line.removeprefix(b"data: "))["choices"]
    return bool(choices and choices[0]["text"])


def bodies(count: int, *, seed: int) -> list[bytes]:
    """Completions with prompts and answers of the declared lengths; random weights never end an answer early."""
    stream = random.Random(seed)
    inputs = LengthDistribution(p50=INPUT_TOKENS_P50, p99=INPUT_TOKENS_P99)
    outputs = LengthDistribution(p50=OUTPUT_TOKENS_P50, p99=OUTPUT_TOKENS_P99)
    made = []
    for _ in range(count):
        prompt = words_of(stream, min(inputs.sample(stream), LONGEST_INPUT))
        wanted = min(outputs.sample(stream), LONGEST_OUTPUT)
        asked = {"model": MODEL_NAME, "prompt": prompt, "max_tokens": wanted, "stream": True, "temperature": 0}
        made.append(json.dumps(asked).encode())
    return made


async def _load(scenario: Scenario, rate: float, files: Files, cores: Cores, seconds: float) -> Measured:
    count = int(rate * seconds)
    moments = np.cumsum(np.random.default_rng([scenario.seed, 3]).exponential(1 / rate, count))
    asked, tokens = bodies(count, seed=scenario.seed), Tokens(first=np.full(count, np.inf))
    with tempfile.TemporaryDirectory() as scratch, pod(files, Path(scratch), cores) as (url, groups):
        async with session() as client:
            await _warm(client, url, asked[:SEQUENCES])
            disturbance = Disturbance(cores={cores.pods, cores.outside}, pids=processes_of(groups))
            seen = await open_loop(
                client, url, moments=moments, body_of=asked.__getitem__, least_seconds=seconds + 1, ask=tokens.ask
            )
            others = disturbance.share()
    times = {"total": seen.total, "firstToken": tokens.first[: seen.sent], "perToken": np.array(tokens.gaps)}
    return {
        "name": scenario.name,
        "measuredAt": now(),
        "requests": seen.sent,
        "errors": int(np.isinf(seen.total).sum()),
        "tokens": len(tokens.gaps) + seen.sent,
        "otherLoad": others,
        "lagP99Ms": 1000 * float(np.quantile(seen.lag, 0.99)),
        **{name: quantiles(values) for name, values in times.items()},
    }


def quantiles(seconds: Array) -> dict[str, float]:
    """Milliseconds."""
    p50, p99 = (1000 * float(np.quantile(seconds, q, method="inverted_cdf")) for q in (0.5, 0.99))
    return {"p50Ms": p50, "p99Ms": p99}


async def _warm(client: ClientSession, url: str, asked: list[bytes]) -> None:
    """Until it answers, then as many at once as it has places. Raises RuntimeError when it does not."""
    deadline = time.monotonic() + START_SECONDS
    while not await _answers(client, url, asked[0]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{url} does not answer after {START_SECONDS:g} s")
        await asyncio.sleep(0.2)
    await asyncio.gather(*(_answers(client, url, body) for body in asked))


async def _answers(client: ClientSession, url: str, body: bytes) -> bool:
    try:
        async with client.post(url, data=body, headers=JSON) as response:
            await response.read()
            return response.status == 200
    except ClientError:
        return False


def load(files: Files, cores: Cores, *, seconds: float) -> None:
    os.sched_setaffinity(0, {cores.outside})
    rates = {row["name"]: float(row["ratePerSecond"]) for row in files.predictions()}
    for scenario in SCENARIOS:
        measured: dict[str, Any] = asyncio.run(_load(scenario, rates[scenario.name], files, cores, seconds))
        files.add_measured(measured)
        print(f"{time.strftime('%T')} {json.dumps(measured)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("profile", "load"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load (default: %(default)s)")
    options = parser.parse_args()
    files, cores = Files(options.out), Cores.found()
    if options.what == "profile":
        profile(files, cores)
    else:
        load(files, cores, seconds=options.seconds)


if __name__ == "__main__":
    main()
