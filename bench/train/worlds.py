"""Worlds of ranks that take turns: started pinned to a core each, stopped while another one computes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.serve.machine import on_core
from cycle_server.profiler.http import free_port
from cycle_trainer.launch import rank_environment
from cycle_wire.training import TrainingConfig

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Block:
    """What a world took for some steps: of its slowest rank."""

    seconds: float
    other_threads_share: float  # of one core, of the rank where it was most
    pre_share: float
    all_reduce_share: float


class Ranks:
    """The processes of one world, on cores 0, 1, ... or on those given."""

    def __init__(
        self, *, loop: str, config: Path, environments: Sequence[Mapping[str, str]], cores: Sequence[int]
    ) -> None:
        command = [sys.executable, "-m", "bench.train.rank", "--config", str(config), "--loop", loop]
        self._processes = []
        for core, environment in zip(cores, environments, strict=True):
            with on_core(core):
                self._processes.append(
                    subprocess.Popen(
                        command,
                        env={**os.environ, **environment},
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )

    def run(self, steps: int) -> Block:
        self.begin(steps)
        return self.end()

    def begin(self, steps: int) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGCONT)
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()

    def end(self) -> Block:
        answers = [self._answer(process) for process in self._processes]
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)
        seconds = max(float(answer["seconds"]) for answer in answers)
        return Block(
            seconds=seconds,
            other_threads_share=max(answer["otherThreadsSeconds"] for answer in answers) / seconds,
            pre_share=max(answer["preSeconds"] for answer in answers) / seconds,
            all_reduce_share=max(answer["allReduceSeconds"] for answer in answers) / seconds,
        )

    def _answer(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"a rank ended with {process.wait()}; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def torch_environments(config: TrainingConfig) -> list[dict[str, str]]:
    """As torchrun sets them."""
    size, port = config.world.size, str(free_port())
    return [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": HOST,
            "MASTER_PORT": port,
            **rank_environment(config.world),
        }
        for rank in range(size)
    ]
