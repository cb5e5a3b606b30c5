"""A process that computes batches: the loop after the fork."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from cycle_server.batching.execution import is_out_of_memory
from cycle_server.engine.pipeline import configure_process
from cycle_server.engine.warm_up import warm_up
from cycle_server.workers.messages import read_items, write_error, write_result
from cycle_wire.serving import ServerConfig

if TYPE_CHECKING:
    from cycle_server.engine.choose import AnyEngine

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Also in the middle of a batch, where the end of the channel isn't seen."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def serve(engine: AnyEngine, config: ServerConfig, descriptor: int) -> None:
    """Warms up, says what batches cost, and computes until the channel's other end is closed."""
    configure_process(threads=config.threads)
    samples = warm_up(engine, lengths=config.warmup_sequence_lengths, batch_sizes={1, config.maximum_batch_size})
    channel: Connection[bytes, bytes] = Connection(descriptor)
    channel.send_bytes(json.dumps(samples).encode())
    while True:
        try:
            message = channel.recv_bytes()
        except EOFError:
            return
        channel.send_bytes(_reply(engine, message))


def _reply(engine: AnyEngine, message: bytes) -> bytes:
    try:
        return write_result(engine.compute(read_items(message)))
    except Exception as error:  # noqa: BLE001 - one bad batch must not end the process; the front is told
        return write_error(error, out_of_memory=is_out_of_memory(error))
