"""`cycle-server compute`: loads the variant once, then forks a worker whenever the front asks for one.

A fork shares the weights as they lie in memory, also those that oneDNN or fbgemm packed: pages are copied only when
written to, and nobody writes to weights. It is only safe in a process without other threads, so this one computes
nothing itself and keeps torch at one thread; each worker sets its own number after the fork.

The control socket (SOCK_SEQPACKET: messages keep their bounds) is named by its number. The front sends the server's
configuration, and gets {"maximumTokens"} or {"error"}. Then each message is the pid of a worker to end first (0: none)
with the descriptor of the new one's channel, and is answered with the new pid. The end of the socket ends it all.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from cycle_server.engine.choose import load_engine
from cycle_server.errors import BadInputError
from cycle_server.workers.worker import die_with_parent, serve
from cycle_wire.serving import ServerConfig

if TYPE_CHECKING:
    from cycle_server.engine.choose import AnyEngine

logger = logging.getLogger(__name__)

MESSAGE_BYTES = 1 << 16


def run(control_descriptor: int) -> int:
    control = socket.socket(fileno=control_descriptor)
    config = ServerConfig.model_validate_json(control.recv(MESSAGE_BYTES))
    try:
        engine = load_engine(Path(config.variant_path), threads=1, device=config.device, workers=config.workers)
    except BadInputError as error:
        control.send(json.dumps({"error": str(error)[:4096]}).encode())
        return 1
    gc.freeze()  # a collection in a worker would write to every object's page
    if (threads := sum(1 for _ in Path("/proc/self/task").iterdir())) > 1:
        logger.warning("%d threads run before workers are forked", threads)
    control.send(json.dumps({"maximumTokens": engine.maximum_tokens}).encode())
    workers: set[int] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
        _end(workers & {int(message)} if message else workers)
        if not message:
            return 0
        workers.discard(int(message))
        pid = _fork(engine, config, control, descriptors[0])
        workers.add(pid)
        os.close(descriptors[0])
        control.send(str(pid).encode())


def _end(workers: set[int]) -> None:
    """Only this process waits for its children, so each pid is still that worker's."""
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    for pid in workers:
        os.waitpid(pid, 0)


def _fork(engine: AnyEngine, config: ServerConfig, control: socket.socket, descriptor: int) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent(parent)
            control.close()
            serve(engine, config, descriptor)
        except BaseException:
            logger.exception("a worker failed")
            os._exit(1)
        os._exit(0)  # what is registered to run at exit is the parent's
    return pid
