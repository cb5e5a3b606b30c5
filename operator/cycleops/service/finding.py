"""What a policy finds: a condition without its bookkeeping."""

from dataclasses import dataclass

from cycleops.api.conditions import ServiceCondition
from cycleops.api.reasons import Reason


@dataclass(frozen=True, slots=True)
class Finding:
    """``status`` None is Unknown. ``message`` says what it is and, when something is wrong, what to do."""

    type: ServiceCondition
    status: bool | None
    reason: Reason
    message: str
