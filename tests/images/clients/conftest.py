"""One real server for all clients. The clients' own environment runs the tests, the server's runs the server."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cycle_server.engine.model import EncoderClassifier
from cycle_server.profiler.http import free_port
from cycle_wire.parts import Variant
from tests.images.server.causal_variants import write_causal
from tests.images.server.serving import Running, serving
from tests.images.server.variants import write_variant


@dataclass(frozen=True)
class Served:
    """``reference`` computes what the variant in ``folder`` stands for."""

    running: Running
    grpc_port: int
    folder: Path
    reference: EncoderClassifier

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.running.port}"

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("variants") / "v"
    reference = write_variant(folder, variant=Variant(name="v"))
    port = free_port()
    with serving(folder, maximum_batch_size=4, budget_milliseconds=60_000, grpc_port=port) as running:
        yield Served(running=running, grpc_port=port, folder=folder, reference=reference)


@dataclass(frozen=True)
class Generating:
    """``reference`` is the same language model in transformers."""

    running: Running
    reference: Any

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.running.port}"


@pytest.fixture(scope="session")
def generating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generating]:
    folder = tmp_path_factory.mktemp("variants") / "language"
    reference = write_causal(folder, variant=Variant(name="v"))
    with serving(folder, maximum_batch_size=4, budget_milliseconds=60_000) as running:
        yield Generating(running=running, reference=reference)
