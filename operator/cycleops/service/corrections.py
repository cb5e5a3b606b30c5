"""What was measured of a service and changes its plan: how slow its profiles really are, how often its cache hits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cycleops.service.memory import Memory


@dataclass(frozen=True, slots=True)
class Corrections:
    """``slowness`` by profile. ``hardware``: on which profiles that never served are taken to be as slow as the rest.

    ``hit_ratio``, ``hit_ratio_lower``: as measured, and what capacity may count on; both 0 without evidence.
    """

    slowness: Mapping[str, float] = field(default_factory=dict)
    hardware: str = ""
    hit_ratio: float = 0.0
    hit_ratio_lower: float = 0.0

    def slowness_of(self, profile: str, hardware: str) -> float:
        others = max(self.slowness.values(), default=1.0) if hardware == self.hardware else 1.0
        return self.slowness.get(profile, others)

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(self._said())

    def _said(self) -> Iterator[str]:
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
        return Corrections(slowness=self.slowness, hardware=self.hardware)

    def inputs(self) -> dict[str, Any]:
        """For the hash of what a plan depends on."""
        return {"slowness": dict(sorted(self.slowness.items())), "on": self.hardware, "hits": self.hit_ratio_lower}


AS_PROFILED = Corrections()


def corrections_of(memory: Memory | None) -> Corrections:
    if memory is None:
        return AS_PROFILED
    slower = any(slowness > 1.0 for slowness in memory.slowness.values())  # else it is all as profiled
    return Corrections(
        slowness=memory.slowness if slower else {},
        hardware=memory.hardware if slower else "",
        hit_ratio=memory.hits.expected,
        hit_ratio_lower=memory.hits.counted,
    )
