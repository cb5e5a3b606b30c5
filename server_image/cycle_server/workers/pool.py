"""The front's side: starts the template, and has one Worker for each process that computes."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np

from cycle_server.batching.execution import ComputeLostError
from cycle_server.errors import BadVariantError
from cycle_server.items import Items
from cycle_server.workers.messages import read_reply, write_items
from cycle_wire.serving import ServerConfig

logger = logging.getLogger(__name__)

PROGRAM = "cycle_server.cli"
MESSAGE_BYTES = 1 << 16
WARM_SECONDS = 120.0  # a new worker's, all of them at once on few cores
STOP_SECONDS = 5.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before the forks; torch's are set after them


class Worker:
    """One process that computes; a batching.lane.Process."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._channel: Connection[bytes, bytes] | None = None
        self.pid = 0
        self.samples: list[tuple[int, float]] = []

    def compute(self, tokens: Items, *, limit_seconds: float) -> np.ndarray:
        """Raises ComputeLostError, MemoryError, or RemoteError with what was raised there."""
        if self._channel is None:
            raise ComputeLostError("no process")
        try:
            self._channel.send_bytes(write_items(tokens))
            if not self._channel.poll(limit_seconds):
                raise ComputeLostError(f"process {self.pid} gave no result within {limit_seconds:.0f} s")
            reply = self._channel.recv_bytes()
        except (OSError, EOFError) as error:
            raise ComputeLostError(f"process {self.pid} has ended") from error
        return read_reply(reply)

    def renew(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        own, other = socket.socketpair()
        with other:
            self.pid = self._pool.fork(replacing=self.pid, channel=other)
        self._channel = Connection(own.detach())
        try:
            if not self._channel.poll(WARM_SECONDS):
                raise ComputeLostError(f"process {self.pid} was not warm after {WARM_SECONDS:.0f} s")
            self.samples = [(tokens, seconds) for tokens, seconds in json.loads(self._channel.recv_bytes())]
        except (OSError, EOFError) as error:
            raise ComputeLostError(f"process {self.pid} ended while it started") from error
        logger.info("process %d computes", self.pid)


class Pool:
    """``maximum_tokens``: of the variant. Blocks until all are warm; raises BadVariantError or ComputeLostError."""

    def __init__(self, config: ServerConfig) -> None:
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            # A session of its own: a signal from the keyboard is the front's to act on.
            self._template = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, "compute", "--control", str(other.fileno())],
                pass_fds=[other.fileno()],
                start_new_session=True,
                env={**os.environ, **ONE_THREAD},
            )
        self._asking = threading.Lock()
        self.workers = [Worker(self) for _ in range(config.workers)]
        try:
            self.maximum_tokens = self._load(config)
            with ThreadPoolExecutor(len(self.workers)) as starting:
                for started in [starting.submit(worker.renew) for worker in self.workers]:
                    started.result()
        except BaseException:
            self.close()
            raise

    @property
    def samples(self) -> Sequence[tuple[int, float]]:
        """Items and seconds of each batch of the warm-up, while all processes computed."""
        return [sample for worker in self.workers for sample in worker.samples]

    def fork(self, *, replacing: int, channel: socket.socket) -> int:
        """The new worker's pid; the worker ``replacing`` is killed first. Raises ComputeLostError."""
        with self._asking:
            try:
                socket.send_fds(self._control, [str(replacing).encode()], [channel.fileno()])
                answer = self._control.recv(MESSAGE_BYTES)
            except OSError as error:
                raise ComputeLostError("the process that starts others has ended") from error
        if not answer:
            raise ComputeLostError("the process that starts others has ended")
        return int(answer)

    def close(self) -> None:
        """Ends all processes, also in the middle of a batch."""
        self._control.close()
        try:
            self._template.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:  # it loads a variant still
            self._template.kill()
            self._template.wait()

    def _load(self, config: ServerConfig) -> int:
        self._control.send(config.to_json().encode())
        said = self._control.recv(MESSAGE_BYTES)
        if not said:
            raise ComputeLostError(f"the process that loads the variant ended with {self._template.wait()}")
        answer = json.loads(said)
        if "error" in answer:
            raise BadVariantError(answer["error"])
        return int(answer["maximumTokens"])
