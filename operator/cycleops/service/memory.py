"""What adaptation knows of one service, and its copy in ``status.adaptation.memory``. Pure.

A restarted operator goes on from the copy. It is written with the other changes of ``status.adaptation``, so what is
lost is at most ten minutes of the account of late answers, of the day's rates and of the reference of the inputs; the
number of replicas is on the Deployment itself, and the rate is known again after one window.
"""

import json
import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cycleops.planner.adaptation import State
from cycleops.planner.adaptation.hits import HitEvidence

MAXIMUM_BYTES = 8192
MAXIMUM_PROFILES = 32
_DIGITS = 5
_CLOCK = 1e7  # numbers above are times in seconds since the epoch


class Memory(BaseModel):
    """``served``: which plan it is of, by which ``profile``, on ``hardware``. ``startup_seconds``: as pods showed it.

    ``slowness``: by profile, what plans are made with. Of profiles that never served, nothing is known.
    ``profiled_at``: when ``hardware`` was last measured, in seconds since the epoch. ``tokens``: p50 and p99 of input
    lengths that had shifted before that; they count in place of the declared ones while these stay ``declared``.
    """

    model_config = ConfigDict(frozen=True)

    served: str
    hardware: str
    profile: str
    budget: str
    state: State
    hits: HitEvidence = HitEvidence()
    slowness: dict[str, float] = Field(default_factory=dict, max_length=MAXIMUM_PROFILES)
    startup_seconds: float | None = Field(default=None, ge=0)
    profiled_at: int = 0
    tokens: tuple[int, int] | None = None
    declared: tuple[int, int] | None = None
    asked_at: float = Field(default=0.0, description="End of the last interval in which somebody asked.")

    @property
    def planned_slowness(self) -> float:
        return self.slowness.get(self.profile, 1.0)

    def dump(self) -> str:
        """JSON with so many digits as matter. Without the reference of inputs when that alone makes it too long."""
        text = _text(self)
        if len(text) > MAXIMUM_BYTES:
            state = self.state.model_copy(update={"watch": State(replicas=1).watch})
            text = _text(self.model_copy(update={"state": state}))
        return text


def load(text: str) -> Memory | None:
    """None when there is none, or when another version of the operator wrote it: then it begins anew."""
    try:
        return Memory.model_validate_json(text)
    except ValidationError:
        return None


def _text(memory: Memory) -> str:
    return json.dumps(_short(memory.model_dump(mode="json", exclude_defaults=True)), separators=(",", ":"))


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_short(inner) for inner in value]
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 1) if abs(value) > _CLOCK else float(f"{value:.{_DIGITS}g}")
    return value
