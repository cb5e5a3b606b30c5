"""Reports of pods on their way into status: received by the report server, folded in and acknowledged by a pass.

A report is answered only after the pass that took it in has stored the status. A pass that fails leaves its reports
here for the next one.
"""

import asyncio
import datetime as dt
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from cycle_wire.reports import Message, ProgressReport
from cycleops.controller.queue import Key

_REMEMBERED_PODS = 20_000
_REMEMBERED_SEQUENCES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One report. ``stored`` ends as True when it is stored, as False when its object is gone."""

    pod: str
    pod_uid: str
    sequence: int
    message: Message
    stored: asyncio.Future[bool] = field(repr=False)


class Inbox:
    """Used from one event loop."""

    def __init__(self) -> None:
        self._waiting: defaultdict[Key, list[Delivery]] = defaultdict(list)
        self._stored: OrderedDict[str, OrderedDict[int, None]] = OrderedDict()
        self._progress_at: dict[Key, float] = {}
        self._began = dt.datetime.now(dt.UTC)
        self._heard: dict[Key, dt.datetime] = {}

    def heard(self, key: Key) -> dt.datetime:
        """When one of its pods last said anything; an operator that has just started may have missed it."""
        return self._heard.get(key, self._began)

    def was_stored(self, *, pod_uid: str, sequence: int) -> bool:
        return sequence in self._stored.get(pod_uid, ())

    def offer(self, key: Key, *, pod: str, pod_uid: str, sequence: int, message: Message) -> asyncio.Future[bool]:
        """Queue a report for the next pass. The same one twice (a retry) is queued once."""
        for delivery in self._waiting[key]:
            if (delivery.pod_uid, delivery.sequence) == (pod_uid, sequence):
                return delivery.stored
        self._heard[key] = dt.datetime.now(dt.UTC)
        if isinstance(message, ProgressReport):
            self._drop_progress(key)
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(Delivery(pod, pod_uid, sequence, message, stored))
        return stored

    def waiting(self, key: Key, *, progress_every_seconds: float) -> tuple[Delivery, ...]:
        """In the order of arrival; progress only when the last one was stored long enough ago, or it is the end."""
        due = self.progress_due_seconds(key, every_seconds=progress_every_seconds) <= 0.0
        return tuple(d for d in self._waiting.get(key, ()) if due or not _passing(d.message))

    def progress_due_seconds(self, key: Key, *, every_seconds: float) -> float:
        """Seconds until progress of this object may be written again."""
        last = self._progress_at.get(key)
        return 0.0 if last is None else max(0.0, last + every_seconds - time.monotonic())

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._progress_at.pop(key, None)
        self._heard.pop(key, None)
        for delivery in self._waiting.pop(key, []):
            if not delivery.stored.done():
                delivery.stored.set_result(False)

    def acknowledge(self, key: Key, deliveries: Iterable[Delivery]) -> None:
        """The status that holds these reports is stored."""
        done = set(deliveries)
        left = [delivery for delivery in self._waiting.pop(key, []) if delivery not in done]
        if left:
            self._waiting[key] = left
        for delivery in done:
            self._remember(delivery)
            if isinstance(delivery.message, ProgressReport):
                self._progress_at[key] = time.monotonic()
            if not delivery.stored.done():
                delivery.stored.set_result(True)

    def _drop_progress(self, key: Key) -> None:
        """Only the newest progress matters."""
        older = [d for d in self._waiting[key] if isinstance(d.message, ProgressReport)]
        self._waiting[key] = [d for d in self._waiting[key] if d not in older]
        for delivery in older:
            self._remember(delivery)
            if not delivery.stored.done():
                delivery.stored.set_result(True)

    def _remember(self, delivery: Delivery) -> None:
        sequences = self._stored.setdefault(delivery.pod_uid, OrderedDict())
        self._stored.move_to_end(delivery.pod_uid)
        sequences[delivery.sequence] = None
        while len(sequences) > _REMEMBERED_SEQUENCES:
            sequences.popitem(last=False)
        while len(self._stored) > _REMEMBERED_PODS:
            self._stored.popitem(last=False)


def _passing(message: Message) -> bool:
    return isinstance(message, ProgressReport) and message.step < message.total_steps
