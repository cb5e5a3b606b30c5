"""T by term on a GPU beside T on one and two cores, with the engine and the profiler that serve. One step a call:

    python -m bench.gpu write VARIANTS [--quick]
    taskset -c 14 python -m bench.gpu measure VARIANTS RESULTS/cpu1.json --device cpu --threads 1
    taskset -c 14,15 python -m bench.gpu measure VARIANTS RESULTS/cuda.json --device cuda --threads 1
    python -m bench.gpu report RESULTS

Needs torch built for CUDA, which the project's images have not. A result is written after each cell; what there is no
time for (--seconds) is missing in it. Weights are random (models.py).
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.gpu.models import DECODERS, ENCODERS, Place, words, write_all
from bench.gpu.report import report
from cycle_server.engine.causal.model import CausalEngine
from cycle_server.engine.device import Device, choose_device, device_name
from cycle_server.engine.pipeline import Engine
from cycle_server.process import processor_name
from cycle_server.profiler.asking import AskingTexts
from cycle_server.profiler.generation import measure_generation
from cycle_server.profiler.measure import measure
from cycle_server.server.generator import warm_up
from cycle_wire.parts import Precision
from cycle_wire.profile import Histogram, Pace
from cycle_wire.serving import DeviceKind

Cells = Sequence[tuple[Sequence[int], Sequence[int]]]  # batch sizes or concurrencies, with lengths
PRECISIONS = (Precision.FLOAT32, Precision.BFLOAT16)
QUICK_MODELS = ("minilm-l6", "gpt2-small")
POOL_BYTES = 1 << 30
# One core takes seconds for what a GPU does at once; so it gets fewer cells, the ones that are compared first.
CELLS: dict[DeviceKind, tuple[Cells, Cells]] = {
    DeviceKind.CPU: (
        [([1], [16, 64, 128]), ([8], [16, 64]), ([32], [16]), ([8], [128])],
        [([1], [16, 64, 128]), ([8], [64])],
    ),
    DeviceKind.CUDA: (
        [([1, 8, 32, 128], [16, 64, 128])],
        [([1], [16, 64, 128]), ([8, 32], [64])],
    ),
}
QUICK: tuple[Cells, Cells] = ([([1, 8], [16])], [([1], [16])])


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.gpu", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    write = steps.add_parser("write")
    measuring = steps.add_parser("measure")
    for step in (write, measuring):
        step.add_argument("variants", type=Path)
        step.add_argument("--quick", action="store_true", help="few small cells: does it run?")
    measuring.add_argument("result", type=Path)
    measuring.add_argument("--device", type=DeviceKind, default=DeviceKind.CPU)
    measuring.add_argument("--threads", type=int, default=1)
    measuring.add_argument("--seconds", type=float, default=3600.0, help="no cell begins after so long")
    reporting = steps.add_parser("report")
    reporting.add_argument("results", type=Path)
    options = parser.parse_args()
    if options.step == "write":
        write_all(options.variants, QUICK_MODELS if options.quick else (*ENCODERS, *DECODERS), PRECISIONS)
    elif options.step == "report":
        report(options.results)
    else:
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    device, until = choose_device(options.device), time.monotonic() + options.seconds
    result: dict[str, Any] = {
        "device": device_name(options.device, processor=processor_name),
        "kind": options.device,
        "threads": options.threads,
        "torch": torch.__version__,
        "float32MatmulPrecision": torch.get_float32_matmul_precision(),
        "rows": [],
    }
    for precision in PRECISIONS:
        for model in (*ENCODERS, *DECODERS):
            place = Place(model, precision)
            if place.within(options.variants).exists() and time.monotonic() < until:
                for row in _rows(place, options, device, until):
                    result["rows"].append({"model": model, "precision": precision, **row})
                    options.result.write_text(json.dumps(result, indent=1), encoding="utf-8")
                    print(json.dumps(result["rows"][-1]), flush=True)


def _rows(place: Place, options: argparse.Namespace, device: Device, until: float) -> Iterator[dict[str, Any]]:
    folder = place.within(options.variants)
    encoding, decoding = QUICK if options.quick else CELLS[options.device]
    if place.model in ENCODERS:
        yield from _classified(Engine(folder, threads=options.threads, device=device), encoding, until)
        return
    most = max(count for counts, _ in decoding for count in counts)
    engine = CausalEngine(
        folder, threads=options.threads, pool_bytes=POOL_BYTES, sequences=most, device=device, verify=False
    )
    yield from _generated(engine, decoding, until, most=most)


def _classified(engine: Engine, cells: Cells, until: float) -> Iterator[dict[str, Any]]:
    asking = AskingTexts(engine, _texts())
    for batch_sizes, lengths in cells:
        if time.monotonic() > until:
            return
        for row in measure(engine, asking, batch_sizes=batch_sizes, lengths=lengths, paces=[Pace.SATURATED]):
            terms = {"pre": row.pre, "compute": row.compute, "post": row.post}
            yield {"batch": row.batch_size, "length": row.sequence_length, **_milliseconds(terms)}


def _generated(engine: CausalEngine, cells: Cells, until: float, *, most: int) -> Iterator[dict[str, Any]]:
    texts, cost = _texts(), warm_up(engine, sequences=most)
    for concurrencies, lengths in cells:
        for length in lengths:
            if time.monotonic() > until:
                return
            for row in measure_generation(
                engine, texts, cost=cost, concurrencies=concurrencies, prompt_lengths=[length]
            ):
                terms = {"pre": row.pre, "firstToken": row.first_token, "perToken": row.per_token, "post": row.post}
                shape = {"batch": row.concurrency, "length": row.prompt_tokens, "tokens": row.output_tokens}
                yield {**shape, **_milliseconds(terms)}


def _milliseconds(terms: dict[str, Histogram]) -> dict[str, Any]:
    return {
        name: {"p50": times.quantile_seconds(0.5) * 1e3, "p99": times.quantile_seconds(0.99) * 1e3, "n": times.count}
        for name, times in terms.items()
    }


def _texts() -> list[str]:
    source, known = random.Random(0), words(5000)
    return [" ".join(source.choices(known, k=source.randint(4, 40))) for _ in range(300)]


if __name__ == "__main__":
    main()
