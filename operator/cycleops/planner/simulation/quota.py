"""A CPU limit as the kernel enforces it: so much CPU time per period, none of it kept for the next."""

import math

import numpy as np
from numpy.typing import NDArray

from cycleops.planner.simulation.compiled import compiled
from cycleops.planner.simulation.rules import QUOTA_PERIOD_SECONDS


@compiled
def end_under_quota(
    start: float, work: float, beside: float, quota: float, threads: float, bucket: NDArray[np.float64]
) -> float:
    """When ``work`` seconds of ``threads`` threads end that start at ``start``; all stall while the bucket is empty.

    ``beside`` CPU seconds are taken first. ``bucket`` is changed: the period's number, and the CPU seconds left in it.
    Source: Linux, Documentation/scheduler/sched-bwc.rst.
    """
    left_to_do = work * threads
    now = start
    while True:
        period = math.floor(now / QUOTA_PERIOD_SECONDS + 1e-9)
        if period > bucket[0]:
            bucket[0] = period
            bucket[1] = quota
        if beside > 0.0:
            taken = min(beside, bucket[1])
            bucket[1] -= taken
            beside -= taken
        ends = (period + 1) * QUOTA_PERIOD_SECONDS
        possible = min((ends - now) * threads, bucket[1])
        if beside <= 0.0 and left_to_do <= possible:
            bucket[1] -= left_to_do
            return now + left_to_do / threads
        bucket[1] -= possible
        left_to_do -= possible
        now = ends
