"""Why a request isn't computed, and what it should do."""

from enum import StrEnum


class ShedReason(StrEnum):
    """Label of cycle_shed_total; docs/concepts/overload.md has a line on each."""

    QUEUE = "queue"  # the queue is full
    DISPLACED = "displaced"  # the queue is full, and its tenant has most of it
    DEADLINE = "deadline"  # would be late: refused on arrival
    LATE = "late"  # waited until its deadline couldn't be met any more
    RATE = "rate"  # its tenant sends more than it may
    MEMORY = "memory"  # the batch doesn't fit into memory, not even by halves
    STUCK = "stuck"  # the compute thread doesn't come around
    LOST = "lost"  # two processes ended that computed it
    STOPPING = "stopping"


class ShedError(Exception):
    """Not computed, through no fault of the request: it may come again after ``retry_after_seconds``."""

    http_status = 503

    def __init__(self, message: str, *, retry_after_seconds: float, reason: ShedReason = ShedReason.DEADLINE) -> None:
        super().__init__(message)
        self.retry_after_seconds = max(retry_after_seconds, 0.0)
        self.reason = reason


class RateLimitedError(ShedError):
    """Its tenant has used up its rate; the server itself has room."""

    http_status = 429

    def __init__(self, *, texts_per_second: float, retry_after_seconds: float) -> None:
        super().__init__(
            f"the tenant's limit is {texts_per_second:g} texts per second",
            retry_after_seconds=retry_after_seconds,
            reason=ShedReason.RATE,
        )


def displaced(retry_after_seconds: float) -> ShedError:
    return ShedError(
        "the queue is full and most of it is its tenant's",
        retry_after_seconds=retry_after_seconds,
        reason=ShedReason.DISPLACED,
    )


def late() -> ShedError:
    return ShedError("its deadline can't be met any more", retry_after_seconds=0.0, reason=ShedReason.LATE)


def lost() -> ShedError:
    return ShedError("two processes ended that computed it", retry_after_seconds=1.0, reason=ShedReason.LOST)
