"""What was measured of a service and changes its plan: slowness of profiles, hits of the cache, lengths that come."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cycleops.api.traffic import Traffic, TrafficBasis
from cycleops.service.memory import Memory


@dataclass(frozen=True, slots=True)
class Corrections:
    """``slowness`` by profile. ``hardware``: on which profiles that never served are taken to be as slow as the rest.

    ``hit_ratio``, ``hit_ratio_lower``: as measured, and what capacity may count on; both 0 without evidence.
    ``tokens``: p50 and p99 of input lengths, where they are not what was declared and profiles were made anew for them.
    """

    slowness: Mapping[str, float] = field(default_factory=dict)
    hardware: str = ""
    hit_ratio: float = 0.0
    hit_ratio_lower: float = 0.0
    tokens: tuple[int, int] | None = None

    def slowness_of(self, profile: str, hardware: str) -> float:
        others = max(self.slowness.values(), default=1.0) if hardware == self.hardware else 1.0
        return self.slowness.get(profile, others)

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(self._said())

    def _said(self) -> Iterator[str]:
        if self.tokens is not None:
            yield (
                f"Planned for the inputs that come and were measured anew: half of them have up to {self.tokens[0]} "
                f"tokens, 99 of 100 up to {self.tokens[1]}."
            )
        for profile, slowness in sorted(self.slowness.items()):
            if slowness > 1.0:
                yield f"Compute of profile {profile} counts {slowness:.2f} x as long as it says: so it was measured."
        if self.hit_ratio_lower > 0:
            yield (
                f"{self.hit_ratio_lower:.0%} of the requests are counted as answered by the cache, of "
                f"{self.hit_ratio:.0%} that were."
            )

    def cold(self) -> "Corrections":
        """For pods that start with empty caches."""
        return replace(self, hit_ratio=0.0, hit_ratio_lower=0.0)

    def inputs(self) -> dict[str, Any]:
        """For the hash of what a plan depends on."""
        return {
            "slowness": dict(sorted(self.slowness.items())),
            "on": self.hardware,
            "hits": self.hit_ratio_lower,
            "tokens": self.tokens,
        }


AS_PROFILED = Corrections()


def declared_tokens(traffic: Traffic) -> tuple[int, int] | None:
    """p50 and p99 of the input lengths, where the spec says them."""
    tokens = traffic.input_tokens
    return (tokens.p50, tokens.p99) if tokens is not None else None


def _tokens(memory: Memory, traffic: Traffic) -> tuple[int, int] | None:
    """Not where plans are for what is declared, nor of several classes, which lengths alone don't tell apart."""
    if traffic.basis is TrafficBasis.DECLARED or traffic.classes or memory.declared != declared_tokens(traffic):
        return None
    return memory.tokens


def corrections_of(memory: Memory | None, traffic: Traffic) -> Corrections:
    if memory is None:
        return AS_PROFILED
    slower = any(slowness > 1.0 for slowness in memory.slowness.values())  # else it is all as profiled
    return Corrections(
        slowness=memory.slowness if slower else {},
        hardware=memory.hardware if slower else "",
        hit_ratio=memory.hits.expected,
        hit_ratio_lower=memory.hits.counted,
        tokens=_tokens(memory, traffic),
    )
