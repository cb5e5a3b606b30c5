"""What is measured: data, batches, worlds; and the files that the ranks read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.claims.learn import write_data
from cycle_wire.training import TrainingConfig

SEQUENCE_LENGTH = 64
MAXIMUM_STEPS = 150  # more than are run; no row comes twice, so that our loop trains without dropout


@dataclass(frozen=True)
class Scenario:
    """``full_rows``: every row fills SEQUENCE_LENGTH, so that all micro-batches cost the same."""

    name: str
    ranks: int
    micro_batch_size: int
    accumulation: int
    full_rows: bool
    steps_per_block: int

    @property
    def samples_per_step(self) -> int:
        return self.ranks * self.micro_batch_size * self.accumulation


ONE = Scenario("1 rank", 1, 32, 1, full_rows=False, steps_per_block=6)
TWO = Scenario("2 ranks", 2, 16, 1, full_rows=False, steps_per_block=12)
WEAK_ONE = Scenario("1 rank, full rows", 1, 8, 4, full_rows=True, steps_per_block=3)
WEAK_TWO = Scenario("2 ranks, full rows", 2, 8, 4, full_rows=True, steps_per_block=3)


def write_all(folder: Path) -> None:
    """The model, WordNet's glosses to classify, and rows of many glosses."""
    write_data(folder)
    source, target = folder / "data" / "wordnet" / "train.jsonl", folder / "full.jsonl"
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    joined, words, label = [], "", ""
    for row in rows:
        words, label = f"{words} {row['gloss']}".strip(), label or row["supersense"]
        if len(words.split()) > SEQUENCE_LENGTH:  # a word is a token or more
            joined.append({"gloss": words, "supersense": label})
            words, label = "", ""
    target.write_text("".join(json.dumps(row) + "\n" for row in joined), encoding="utf-8")


def config_of(scenario: Scenario, *, backend: str, folder: Path, port: int) -> TrainingConfig:
    """The spec that the loops train by."""
    data = folder / "data" / "wordnet"
    spec: dict[str, Any] = {
        "job": {"namespace": "bench", "name": "train", "uid": "train"},
        "task": "TextClassification",
        "modelPath": str(folder / "models" / "all-minilm-l6-v2"),
        "trainPath": str(folder / "full.jsonl" if scenario.full_rows else data / "train.jsonl"),
        "evaluationPath": str(folder / "full.jsonl" if scenario.full_rows else data / "evaluation.jsonl"),
        "fields": {"text": "gloss", "label": "supersense"},
        "outputPath": str(folder / "output"),
        "outputUri": "pvc://bench/train",
        "world": {
            "hosts": ["127.0.0.1"], "slotsPerHost": scenario.ranks, "backend": backend, "transport": "Gloo",
            "threadsPerRank": 1,
        },
        "training": {
            "maximumSteps": MAXIMUM_STEPS, "globalBatchSize": scenario.samples_per_step,
            "microBatchSize": scenario.micro_batch_size, "learningRate": "5e-5",
            "maximumSequenceLength": SEQUENCE_LENGTH, "precision": "Float32",
        },
        "evaluation": {"maximumRows": 100},
        "checkpoint": {"everySteps": 1_000_000, "keep": 1},
        "variants": [{"name": "fp32"}],
        "rendezvousPort": port,
    }  # fmt: skip
    return TrainingConfig.model_validate(spec)
