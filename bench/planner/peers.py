"""The policies that ours is held against. Each sees what was measured until now, and nothing else.

Sources: kubernetes.io, "Horizontal Pod Autoscaling" (algorithm details; default behaviour) and the autoscaling/v2 API;
llm-d-incubation/workload-variant-autoscaler, docs/developer-guide/epp-saturation-benchmark.md, appendix
"Control-law model".
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from bench.planner.replay import WindowCounts


@dataclass(frozen=True, kw_only=True)
class Seen:
    """At a tick: the window since the last one, and the replicas that take requests or were ordered."""

    now: float
    seconds: float
    window: WindowCounts
    ready: int
    ordered: int


class Policy(Protocol):
    def decide(self, seen: Seen) -> int:
        """Replicas to order from now on; the bench clips them to the limits."""


@dataclass(kw_only=True)
class Static:
    replicas: int

    def decide(self, seen: Seen) -> int:  # noqa: ARG002 - it never looks
        return self.replicas


@dataclass(kw_only=True)
class Limits:
    """An HPA's behaviour: windows in which the lowest (up) or highest (down) recommendation counts, and speed limits.

    ``up_percent``, ``up_pods``: at most the larger of the two is added per ``up_period_seconds``. ``down_pods`` None:
    all may go at once. The defaults are those of Kubernetes.
    """

    up_window_seconds: float = 0.0
    down_window_seconds: float = 300.0
    up_percent: float = 100.0
    up_pods: int = 4
    up_period_seconds: float = 15.0
    down_pods: int | None = None
    down_period_seconds: float = 15.0
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)
    _sizes: deque[tuple[float, int]] = field(default_factory=deque)

    def apply(self, now: float, ordered: int, recommended: int) -> int:
        self._recommended.append((now, recommended))
        self._sizes.append((now, ordered))
        keep = max(self.up_window_seconds, self.down_window_seconds)
        while self._recommended[0][0] < now - keep:
            self._recommended.popleft()
        while self._sizes[0][0] < now - max(self.up_period_seconds, self.down_period_seconds):
            self._sizes.popleft()
        up = min(n for at, n in self._recommended if at >= now - self.up_window_seconds)
        down = max(n for at, n in self._recommended if at >= now - self.down_window_seconds)
        if up > ordered:
            base = min(n for at, n in self._sizes if at >= now - self.up_period_seconds)
            return min(up, base + max(math.ceil(base * self.up_percent / 100), self.up_pods))
        if down < ordered:
            base = max(n for at, n in self._sizes if at >= now - self.down_period_seconds)
            return down if self.down_pods is None else max(down, base - self.down_pods)
        return ordered


@dataclass(kw_only=True)
class HpaOnCpu:
    """Kubernetes' algorithm on the share of time in which a pod computes. ``target``: of that share.

    desired = ceil(pods x usage / target), none within a tenth of it; pods that are not ready count as idle when it
    would scale up, and not at all when down. Usage is over ``usage_seconds``, as the metrics server gives it.
    """

    target: float
    tolerance: float = 0.1
    usage_seconds: float = 30.0
    limits: Limits = field(default_factory=Limits)
    _busy: deque[tuple[float, float, float]] = field(default_factory=deque)

    def decide(self, seen: Seen) -> int:
        self._busy.append((seen.now, seen.window.busy_seconds, seen.ready * seen.seconds))
        while self._busy[0][0] <= seen.now - self.usage_seconds:
            self._busy.popleft()
        available = sum(seconds for _, _, seconds in self._busy)
        usage = sum(busy for _, busy, _ in self._busy) / available if available else 0.0
        return self.limits.apply(seen.now, seen.ordered, self._recommend(seen, usage))

    def _recommend(self, seen: Seen, usage: float) -> int:
        ratio, pods = usage / self.target, seen.ready
        if abs(ratio - 1) <= self.tolerance:
            return seen.ordered
        if ratio > 1 and seen.ordered > seen.ready:
            ratio, pods = ratio * seen.ready / seen.ordered, seen.ordered
            if ratio <= 1 + self.tolerance:
                return seen.ordered
        return max(math.ceil(pods * ratio - 1e-9), 1)


@dataclass(kw_only=True)
class LlmdLaw:
    """llm-d's law as published, driven by the measured p90 of T over the budget.

    Each 60 s: s = clamp(p90 of the last minute / budget, 2), smoothed with 0.6; D = s x ready / ordered while pods
    warm up. Above ``up``: N + ceil(N (D / up - 1)); below ``down``: N - floor(N (1 - s / down)). Then an HPA each
    15 s with windows of 30 s up and 180 s down, max(100 %, 4 pods) a minute up and one pod in two minutes down.
    """

    budget_seconds: float
    up: float = 0.55
    down: float = 0.40
    clamp: float = 2.0
    smoothing: float = 0.6
    cycle_seconds: float = 60.0
    limits: Limits = field(
        default_factory=lambda: Limits(
            up_window_seconds=30, down_window_seconds=180, up_period_seconds=60, down_pods=1, down_period_seconds=120
        )
    )
    _minute: deque[tuple[float, WindowCounts]] = field(default_factory=deque)
    _smoothed: float | None = None
    _last: float = -math.inf
    _wish: int = 0

    def decide(self, seen: Seen) -> int:
        self._minute.append((seen.now, seen.window))
        while self._minute[0][0] <= seen.now - 60:
            self._minute.popleft()
        if seen.now - self._last >= self.cycle_seconds:
            self._last = seen.now
            self._wish = self._recommend(seen)
        return self.limits.apply(seen.now, seen.ordered, self._wish)

    def _recommend(self, seen: Seen) -> int:
        ordered = seen.ordered
        raw = min(self._p90() / self.budget_seconds, self.clamp)
        smoothed = raw if self._smoothed is None else self.smoothing * raw + (1 - self.smoothing) * self._smoothed
        self._smoothed = smoothed
        demand = smoothed * (seen.ready / ordered if 0 < seen.ready < ordered else 1.0)
        if demand > self.up:
            return ordered + math.ceil(ordered * (demand / self.up - 1))
        if smoothed < self.down:
            return ordered - math.floor(ordered * (1 - smoothed / self.down))
        return ordered

    def _p90(self) -> float:
        total = np.sum([window.histogram for _, window in self._minute], axis=0)
        first = self._minute[-1][1]
        merged = type(first)(
            arrivals=0, answered=0, within=0, shed=0, started=0, compute_seconds=0, busy_seconds=0, histogram=total
        )
        return merged.quantile_seconds(0.9)
