"""The highest rate that a server holds. Pure but for the probe."""

from collections.abc import Awaitable, Callable

LOWEST_SHARE, HIGHEST_SHARE = 0.3, 1.05


async def highest_rate(holds: Callable[[float], Awaitable[bool]], *, saturated: float, steps: int) -> float:
    """Bisects between 30 % and 105 % of the rate at which a closed loop saturates the server; 0 when none holds.

    After n steps the answer is within 75 % / 2**n of that rate below the true one.
    """
    low, high, best = LOWEST_SHARE * saturated, HIGHEST_SHARE * saturated, 0.0
    for _ in range(steps):
        middle = (low + high) / 2
        if await _holds(holds, middle):
            low = best = middle
        else:
            high = middle
    if not best and await _holds(holds, low):
        return low
    return best


async def _holds(holds: Callable[[float], Awaitable[bool]], rate: float) -> bool:
    """Twice when the first says no: what else runs on the machine only ever makes a server slower."""
    return await holds(rate) or await holds(rate)
