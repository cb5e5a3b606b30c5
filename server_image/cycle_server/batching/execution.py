"""Runs a batch, and by halves when it can't run as a whole: one text that can't be computed must not take all along."""

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cycle_server.items import Items

logger = logging.getLogger(__name__)

# What torch says when an allocation fails, on the processor, in oneDNN and on an accelerator; there is no type for it.
_OUT_OF_MEMORY = re.compile(
    "can't allocate memory|bad_alloc|out of memory|could not create a (memory|primitive)(?! descriptor)", re.IGNORECASE
)


class ComputeLostError(Exception):
    """What computed has died or was given up with the batch in it. Nothing is known against the batch itself."""


class Compute(Protocol):
    """Logits (texts, classes) of token ids; called on one thread only."""

    def __call__(self, tokens: Items, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Ran:
    """What texts that were asked for together got; times on time.monotonic()."""

    logits: np.ndarray
    started: float
    ended: float
    batch_size: int


@dataclass(frozen=True)
class _Part:
    """Texts [first, last) of the batch, computed together."""

    first: int
    last: int
    result: np.ndarray | Exception
    ended: float


@dataclass(frozen=True)
class Execution:
    """``faults``: what went wrong, the first for the whole batch. ``seconds``: None after a fault."""

    started: float
    parts: Sequence[_Part]
    faults: Sequence[Exception]

    @property
    def seconds(self) -> float | None:
        return None if self.faults else self.parts[-1].ended - self.started

    @property
    def nothing_for_want_of_memory(self) -> bool:
        results = [part.result for part in self.parts]
        return all(isinstance(result, Exception) and is_out_of_memory(result) for result in results)

    def of(self, first: int, last: int) -> Ran | Exception:
        """The result of texts [first, last)."""
        own = [part for part in self.parts if part.first < last and first < part.last]
        for part in own:
            if isinstance(part.result, Exception):
                return part.result
        rows = [part.result[max(first - part.first, 0) : last - part.first] for part in own]  # type: ignore[index]
        return Ran(
            logits=rows[0] if len(rows) == 1 else np.concatenate(rows),
            started=self.started,
            ended=own[-1].ended,
            batch_size=own[-1].last - own[-1].first,
        )


def execute(compute: Compute, texts: Items) -> Execution:
    """Raises no Exception but ComputeLostError: whatever happens, the thread must go on for the others."""
    started, count = time.monotonic(), len(texts)
    whole = _attempt(compute, texts, 0, count)
    if not isinstance(whole.result, Exception):
        return Execution(started=started, parts=[whole], faults=())
    if count == 1:
        return Execution(started=started, parts=[whole], faults=(whole.result,))
    middle = (count + 1) // 2
    halves = [_attempt(compute, texts, 0, middle), _attempt(compute, texts, middle, count)]
    failed = [half.result for half in halves if isinstance(half.result, Exception)]
    return Execution(started=started, parts=halves, faults=(whole.result, *failed))


def _attempt(compute: Compute, texts: Items, first: int, last: int) -> _Part:
    result: np.ndarray | Exception
    try:
        result = compute(texts[first:last])
    except ComputeLostError:
        raise
    except Exception as error:  # noqa: BLE001 - one bad batch must not end the thread; its requests are told
        logger.exception("computing %d texts failed", last - first)
        result = error.with_traceback(None)  # it would keep the batch's tensors in memory
    return _Part(first, last, result, time.monotonic())


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    )
