"""What each row of the table is measured by. Inside the image."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

from bench.claims.answers import Classifier, Writer
from bench.claims.learn import Recipe, learn
from bench.claims.timing import Paired, paired
from cycle_server.engine.model import EncoderClassifier
from cycle_trainer.families import encoder

CALLS = 20  # of a classifier in a round; a GPT's answer is as long as many
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
CUT_OF_LARGE = 0.77  # of heads and neurons: what brings the shape from 335 to some 100 million parameters

Result = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """``seconds``: for each pair."""

    folder: Path
    recipes: dict[str, Recipe]
    seconds: float

    def variants(self, model: str) -> Path:
        return learn(model, self.recipes[model], self.folder, threads=len(os.sched_getaffinity(0)))

    def rows_file(self, model: str) -> Path:
        return self.folder / "data" / self.recipes[model].data / "evaluation.jsonl"


def variant_row(model: str, variant: str) -> Callable[[Bench], Result]:
    """A variant beside fp32 of the same trained model: T one request at a time on one core, and quality."""
    made = Classifier if model == "bert" else Writer

    def measure(bench: Bench) -> Result:
        folder, rows = bench.variants(model), bench.recipes[model].evaluation_rows
        base, other = (made(folder / name, bench.rows_file(model), rows=rows) for name in ("fp32", variant))
        calls = CALLS if model == "bert" else 2
        with one_core():
            times = paired(base, other, calls=calls, seconds=bench.seconds)
        before, after = base.quality(), other.quality()
        sizes = [one.engine.manifest.size_bytes / 1e6 for one in (base, other)]
        counts = [one.engine.manifest.parameters / 1e6 for one in (base, other)]
        note = f"{made.metric} {before:.3f} -> {after:.3f}; {sizes[0]:.1f} -> {sizes[1]:.1f} MB, "
        note += f"{counts[0]:.1f} -> {counts[1]:.1f} M weights that are not 0"
        return result(times, accuracy_change=after - before, note=note)

    return measure


def threads_row(bench: Bench) -> Result:
    """One answer of the GPT by one thread, and by as many as there are cores: a process for each, since torch's number
    of threads is the process's.
    """
    cores = len(os.sched_getaffinity(0))
    folder, rows_file = bench.variants("gpt") / "fp32", bench.rows_file("gpt")
    with _answering(folder, rows_file, 1) as alone, _answering(folder, rows_file, cores) as together:
        times = paired(alone, together, calls=2, seconds=bench.seconds)
    note = f"{cores} threads instead of 1, one answer at a time: a matrix of this size is too small to share"
    return result(times, accuracy_change=0.0, note=note)


def balancing_row(bench: Bench) -> Result:
    """Requests per second of a process on each core, beside those of one process on one core."""
    cores = sorted(os.sched_getaffinity(0))
    folder, rows_file = bench.variants("bert") / "fp32", bench.rows_file("bert")
    seconds = max(bench.seconds / 8, 1.0)
    ratios = []
    for _ in range(4):
        one = sum(_answered(folder, rows_file, cores[:1], seconds))
        ratios.append(sum(_answered(folder, rows_file, cores, seconds)) / one)
    ratios.sort()
    note = (
        f"{len(cores)} processes on {len(cores)} cores, without balancer and HTTP: throughput grows as replicas "
        f"do, {ratios[0]:.2f} to {ratios[-1]:.2f} times in four turns; 20 times takes 20 of them"
    )
    middle = (ratios[1] + ratios[2]) / 2
    return {"measuredChange": middle - 1, "low": ratios[0] - 1, "high": ratios[-1] - 1, "accuracyChange": 0.0,
            "note": note}  # fmt: skip


def large_row(bench: Bench) -> Result:
    """BERT-large's shape with random weights, not trained: parameters, and T of one text of 16 tokens."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    whole = _large()
    cut = _large()
    encoder.prune(cut, sparsity=CUT_OF_LARGE)
    counts = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (whole, cut)]
    tokens = [101, *range(2000, 2014), 102]
    with one_core(), torch.inference_mode():
        calls = [_embedding(model, tokens) for model in (whole, cut)]
        times = paired(calls[0], calls[1], calls=2, seconds=bench.seconds)
    note = f"{counts[0]:.0f} -> {counts[1]:.0f} M parameters; random weights, so no accuracy; {times}"
    return {
        "measuredChange": counts[1] / counts[0] - 1,
        "low": None,
        "high": None,
        "accuracyChange": None,
        "note": note,
    }


def result(times: Paired, *, accuracy_change: float | None, note: str) -> Result:
    return {
        "measuredChange": times.change,
        "low": times.low,
        "high": times.high,
        "accuracyChange": accuracy_change,
        "note": f"{times.base_ms:.2f} -> {times.other_ms:.2f} ms; {note}",
    }


def _large() -> EncoderClassifier:
    return EncoderClassifier(BertModel(BertConfig(**LARGE), add_pooling_layer=False).eval(), classes=45)


def _embedding(model: EncoderClassifier, tokens: list[int]) -> Callable[[int], object]:
    ids = torch.tensor([tokens])
    return lambda _: model(input_ids=ids, attention_mask=torch.ones_like(ids))


@contextmanager
def one_core() -> Iterator[None]:
    """The first of those that this process has: servers are measured on one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _answering(folder: Path, rows_file: Path, threads: int) -> Iterator[Callable[[int], object]]:
    """A call of the GPT in a process of its own, over two pipes."""
    to_child, from_parent = os.pipe()
    to_parent, from_child = os.pipe()
    pid = os.fork()
    if pid == 0:
        writer = Writer(folder, rows_file, rows=100, threads=threads)
        while number := os.read(to_child, 8):
            writer(int.from_bytes(number, "big") - 1)
            os.write(from_child, b"x")
        os._exit(0)

    def call(number: int) -> object:
        os.write(from_parent, (number + 1).to_bytes(8, "big"))
        return os.read(to_parent, 1)

    try:
        yield call
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _answered(folder: Path, rows_file: Path, cores: list[int], seconds: float) -> list[float]:
    """Requests per second of a process on each of the cores, all at once."""
    with tempfile.TemporaryDirectory() as scratch:
        children, begin = [], time.time() + 6.0
        for core in cores:
            pid = os.fork()
            if pid == 0:
                os.sched_setaffinity(0, {core})
                one, number = Classifier(folder, rows_file, rows=200), 0
                time.sleep(max(begin - time.time(), 0.0))
                while time.time() < begin + seconds:
                    one(number)
                    number += 1
                Path(scratch, str(core)).write_text(str(number / seconds))
                os._exit(0)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        return [float(Path(scratch, str(core)).read_text()) for core in cores]
