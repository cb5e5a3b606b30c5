"""A tiny random BERT, data that it can learn, a config, and an operator that takes reports: all a job needs."""

import json
import socket
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import BertConfig, BertModel

from cycle_server.engine.model import write_weights
from cycle_trainer.files import digest_of
from cycle_trainer.tasks.base import Task
from cycle_wire.reports import Report
from cycle_wire.training import TrainingConfig

LABELS = ["animal", "food", "plant", "tool"]
FILLER = [f"word{i}" for i in range(24)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write_model(folder: Path) -> None:
    """A published encoder as a user would have it: bare names and a pooler that nobody needs."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(LABELS) + len(FILLER),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    words = {word: index for index, word in enumerate([*SPECIAL, *LABELS, *FILLER])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def rows_of(count: int, *, offset: int = 0) -> list[dict[str, str]]:
    """Each text has the name of its label somewhere among other words, so one word decides."""
    rows = []
    for number in range(offset, offset + count):
        label = LABELS[number % len(LABELS)]
        words = [FILLER[(number * 7 + place * 5) % len(FILLER)] for place in range(1 + number % 6)]
        words.insert(number % (len(words) + 1), label)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def keep_as_trained(workplace: "Workplace", *, task: Task, model: nn.Module, variants: list[dict[str, Any]]) -> None:
    """Put the model where training would have, and ask for variants of it."""
    scratch = workplace.output / "scratch"
    scratch.mkdir(parents=True)
    write_weights(task.weights(model), scratch / "model.safetensors")
    task.write_companions(model, scratch)
    digest = digest_of(scratch / "model.safetensors")
    scratch.rename(workplace.output / digest.replace(":", "-"))
    workplace.spec |= {"modelDigest": digest, "variants": variants}


class Operator(ThreadingHTTPServer):
    """Stores every report that comes in."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reports: list[Report] = []
        self.arrived = threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def messages(self, kind: str) -> list[Any]:
        return [report.message for report in self.reports if report.message.kind == kind]

    def wait_for(self, kind: str, *, count: int, seconds: float) -> None:
        """Until so many messages of a kind have come; AssertionError when they haven't in time."""
        with self.arrived:
            came = self.arrived.wait_for(lambda: len(self.messages(kind)) >= count, timeout=seconds)
        assert came, f"{len(self.messages(kind))} {kind} reports, not {count}"


class _Handler(BaseHTTPRequestHandler):
    server: Operator

    def do_POST(self) -> None:  # noqa: N802  the base class names it
        report = Report.model_validate_json(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.arrived:
            self.server.reports.append(report)
            self.server.arrived.notify_all()
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Workplace:
    """A folder with model, data and a config; change ``spec`` before writing it."""

    def __init__(self, folder: Path, *, host: str, operator: Operator) -> None:
        self.folder = folder
        self.operator = operator
        self.output = folder / "output"
        write_model(folder / "model")
        write_rows(folder / "train.jsonl", list(rows_of(400)))
        write_rows(folder / "evaluation.jsonl", list(rows_of(64, offset=1000)))
        (folder / "token").write_text("opaque")
        self.spec: dict[str, Any] = {
            "job": {"namespace": "team", "name": "job", "uid": str(uuid.uuid4())},
            "task": "TextClassification",
            "modelPath": str(folder / "model"),
            "trainPath": str(folder / "train.jsonl"),
            "evaluationPath": str(folder / "evaluation.jsonl"),
            "fields": {},
            "outputPath": str(self.output),
            "outputUri": "pvc://models/tiny",
            "world": {"hosts": [host], "slotsPerHost": 2, "backend": "Horovod", "transport": "MPI"},
            "training": {
                "maximumSteps": 40, "globalBatchSize": 16, "microBatchSize": 4, "learningRate": "2e-3",
                "maximumSequenceLength": 16,
            },
            "evaluation": {},
            "checkpoint": {"everySteps": 10, "keep": 2},
            "variants": [],
            "launchTimeoutSeconds": 30,
            "report": {
                "url": f"http://127.0.0.1:{operator.server_port}/v1/report", "tokenPath": str(folder / "token"),
            },
        }  # fmt: skip

    @property
    def config_path(self) -> Path:
        return self.folder / "config.json"

    @property
    def ranks_command(self) -> list[str]:
        """What a worker runs that nobody launches."""
        return [sys.executable, "-m", "cycle_trainer", "ranks", "--config", str(self.config_path)]

    def without_launcher(self, backend: str) -> None:
        """The same world without a launcher; its rendezvous on a port of its own."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.spec["rendezvousPort"] = server.getsockname()[1]
        self.spec["world"] |= {"backend": backend, "transport": "Gloo"}

    @property
    def checkpoints(self) -> Path:
        return self.output / "checkpoints" / str(self.spec["job"]["uid"])

    def write_config(self) -> TrainingConfig:
        self.config_path.write_text(json.dumps(self.spec), encoding="utf-8")
        return TrainingConfig.model_validate(self.spec)
