"""Sends a pod's reports to the operator, in order, from one background thread. Standard library only.

``post`` never blocks. A ProgressReport waits only until a newer one takes its place; every other message is tried
again until it is stored, and ``flush`` says so or raises. With no URL (a run by hand) messages are only logged.
"""

import base64
import json
import logging
import random
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from http.client import HTTPException
from pathlib import Path

from cycle_wire.reports import Message, ProgressReport, Report
from cycle_wire.training import JobIdentity, ReportTarget

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_SECONDS = 30.0  # the operator answers within 20 s
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
PROGRESS_PATIENCE_SECONDS = 20.0


class DeliveryError(RuntimeError):
    """A message that must be delivered wasn't: refused by the operator, or not stored in time."""


class Sender:
    """One per process. ``patience_seconds``: how long a message other than progress is tried again."""

    def __init__(self, *, target: ReportTarget, job: JobIdentity, patience_seconds: float = 300.0) -> None:
        self._target = target
        self._job = job
        self._patience_seconds = patience_seconds
        self._queue: deque[Message] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._error: DeliveryError | None = None
        self._last_number = 0
        if target.url is not None:
            threading.Thread(target=self._run, name="report-sender", daemon=True).start()

    def post(self, message: Message) -> None:
        """Queue a message; a waiting ProgressReport is replaced by a newer one."""
        if self._target.url is None:
            logger.info("report %s", message.to_json())
            return
        with self._changed:
            if isinstance(message, ProgressReport) and self._queue and isinstance(self._queue[-1], ProgressReport):
                self._queue.pop()
            self._queue.append(message)
            self._changed.notify_all()

    def flush(self, *, timeout_seconds: float = 320.0) -> None:
        """Wait until all is delivered. Raises DeliveryError for what wasn't since the last flush."""
        with self._changed:
            in_time = self._changed.wait_for(lambda: not self._queue and not self._busy, timeout=timeout_seconds)
            error, self._error = self._error, None
        if error is not None:
            raise error
        if not in_time:
            raise DeliveryError(f"reports were not delivered within {timeout_seconds:.0f} s")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._queue))
                message = self._queue.popleft()
                self._busy = True
            error = self._deliver(message)
            if error is not None:
                logger.error("%s report: %s", message.kind, error)
            with self._changed:
                self._busy = False
                if error is not None and not isinstance(message, ProgressReport):
                    self._error = error
                self._changed.notify_all()

    def _superseded(self, message: Message) -> bool:
        with self._changed:
            return isinstance(message, ProgressReport) and bool(self._queue)

    def _deliver(self, message: Message) -> DeliveryError | None:
        number = self._next_number()
        patience = PROGRESS_PATIENCE_SECONDS if isinstance(message, ProgressReport) else self._patience_seconds
        deadline, pause = time.monotonic() + patience, FIRST_PAUSE_SECONDS
        while True:
            try:
                problem = self._attempt(message, number=number)
            except (OSError, ValueError, HTTPException) as error:  # no connection or answer; bad token or file
                problem = str(error) or type(error).__name__
            if problem is None or self._superseded(message):
                return None
            if isinstance(problem, DeliveryError):
                return problem
            if time.monotonic() + pause > deadline:
                return DeliveryError(f"not stored within {patience:.0f} s, last: {problem}")
            logger.warning("%s report: %s; trying again", message.kind, problem)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _attempt(self, message: Message, *, number: int) -> str | DeliveryError | None:
        """None when stored, a DeliveryError when trying again can't help, else what went wrong."""
        assert self._target.url is not None
        token = Path(self._target.token_path).read_text(encoding="utf-8").strip()  # rotated: read each time
        report = Report(job=self._job, pod=pod_of_token(token), sequence=number, message=message)
        request = urllib.request.Request(
            self._target.url,
            data=report.to_json().encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        )
        https = self._target.url.startswith("https:")
        context = ssl.create_default_context(cafile=self._target.ca_path) if https else None
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_SECONDS, context=context):
                return None
        except urllib.error.HTTPError as error:
            text = f"HTTP {error.code}: {error.read(500).decode(errors='replace').strip()}"
            return DeliveryError(text) if 400 <= error.code < 500 else text

    def _next_number(self) -> int:
        """Microseconds since the epoch, rising: unique in the pod even when a process starts again in it."""
        self._last_number = max(self._last_number + 1, time.time_ns() // 1000)
        return self._last_number


def pod_of_token(token: str) -> str:
    """The pod that a projected token is bound to (its claim, not verified here); else this machine's host name."""
    parts = token.split(".")
    if len(parts) != 3:
        return socket.gethostname()
    claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    name: str = claims.get("kubernetes.io", {}).get("pod", {}).get("name", "") or socket.gethostname()
    return name
