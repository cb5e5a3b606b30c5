"""Trains the two models and makes their variants, with the trainer and the compressor themselves, on one rank."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cycle_trainer.files import folder_of_digest
from cycle_wire.training import TrainingConfig
from examples.demo_data.dictionary import write_dictionary
from examples.demo_data.prepare import WORDNET, write_supersenses

PORT = 29517
CUT = "Structured"
INT4 = {"bits": 4, "scheme": "Asymmetric", "granularity": "PerGroup", "groupSize": 64, "activations": "None"}
INT8 = {"bits": 8, "scheme": "Symmetric", "granularity": "PerChannel", "activations": "Dynamic"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained here; ``variants`` besides fp32."""

    task: str
    model: str
    data: str
    fields: dict[str, str]
    training: dict[str, Any]
    variants: list[dict[str, Any]]
    evaluation_rows: int = 1500


def _pruned(name: str, sparsity: str, structure: str, recovery_steps: int) -> dict[str, Any]:
    pruning = {"criterion": "Magnitude", "structure": structure, "sparsity": sparsity, "recoverySteps": recovery_steps}
    return {"name": name, "pruning": pruning}


def recipes(scale: float) -> dict[str, Recipe]:
    """``scale``: of the steps."""
    steps, recovery = max(int(150 * scale), 2), max(int(60 * scale), 1)
    return {
        "bert": Recipe(
            task="TextClassification",
            model="all-minilm-l6-v2",
            data="wordnet",
            fields={"text": "gloss", "label": "supersense"},
            training={
                "maximumSteps": steps, "globalBatchSize": 32, "microBatchSize": 32, "learningRate": "5e-5",
                "maximumSequenceLength": 64,
            },
            variants=[
                _pruned("masked-90", "0.9", "Unstructured", recovery),
                _pruned("cut-90", "0.9", CUT, recovery),
                {"name": "int8", "quantization": INT8},
            ],
        ),
        "gpt": Recipe(
            task="LanguageModeling",
            model="dictionary-llama",
            data="dictionary",
            fields={},
            training={
                "maximumSteps": 2 * steps, "globalBatchSize": 32, "microBatchSize": 32, "learningRate": "2e-3",
                "maximumSequenceLength": 64,
            },
            variants=[
                _pruned("cut-80", "0.8", CUT, 2 * recovery),
                {"name": "int8", "quantization": INT8},
                {"name": "int4", "quantization": INT4},
            ],
            evaluation_rows=600,
        ),
    }  # fmt: skip


def write_data(folder: Path) -> None:
    """Models and data of the examples, unless they are there."""
    if not (folder / "data" / "dictionary").exists():
        write_supersenses(models=folder / "models", data=folder / "data", wordnet=WORDNET, faults=False)
        write_dictionary(models=folder / "models", data=folder / "data", wordnet=WORDNET)


def learn(name: str, recipe: Recipe, folder: Path, *, threads: int) -> Path:
    """The folder of the variants, made unless it is there: fp32 and the recipe's."""
    output = folder / f"{name}-{recipe.training['maximumSteps']}"
    done = output / "variants-are-in"
    if not _has_all(done, recipe):
        config = _config(name, recipe, folder, output, threads)
        _run("train", config, output)
        trained = next(path for path in output.iterdir() if path.name.startswith("sha256-"))
        digest = trained.name.replace("-", ":", 1)
        assert folder_of_digest(output, digest) == trained
        _run("compress", {**config, "modelDigest": digest}, output)
        done.write_text(str(trained / "variants"), encoding="utf-8")
    return Path(done.read_text(encoding="utf-8"))


def _has_all(done: Path, recipe: Recipe) -> bool:
    """The recipe may name variants that it didn't when the others were made."""
    if not done.exists():
        return False
    folder = Path(done.read_text(encoding="utf-8"))
    return all((folder / variant["name"]).exists() for variant in recipe.variants)


def _config(name: str, recipe: Recipe, folder: Path, output: Path, threads: int) -> dict[str, Any]:
    data = folder / "data" / recipe.data
    return {
        "job": {"namespace": "bench", "name": name, "uid": "claims"},
        "task": recipe.task,
        "modelPath": str(folder / "models" / recipe.model),
        "trainPath": str(data / "train.jsonl"),
        "evaluationPath": str(data / "evaluation.jsonl"),
        "fields": recipe.fields,
        "outputPath": str(output),
        "outputUri": f"pvc://bench/{name}",
        "world": {
            "hosts": [socket.gethostname()], "slotsPerHost": 1, "backend": "Torchrun", "transport": "Gloo",
            "threadsPerRank": threads,
        },
        "training": recipe.training,
        "evaluation": {"maximumRows": recipe.evaluation_rows},
        "checkpoint": {"everySteps": 1_000_000, "keep": 1},
        "variants": [{"name": "fp32"}, *recipe.variants],
    }  # fmt: skip


def _run(command: str, config: dict[str, Any], output: Path) -> None:
    """As a pod does, with its log in a file. Raises RuntimeError with the end of it."""
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"{command}.json"
    file.write_text(TrainingConfig.model_validate(config).to_json(), encoding="utf-8")
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(PORT)}
    run = [sys.executable, "-m", "cycle_trainer", command, "--config", str(file)]
    log = output / f"{command}.log"
    with log.open("w", encoding="utf-8") as to:
        done = subprocess.run(run, env={**os.environ, **alone}, stdout=to, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command} ended with {done.returncode}: {log.read_text(encoding='utf-8')[-2000:]}")
