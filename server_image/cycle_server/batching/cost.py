"""How long a batch takes: a fixed part and a part per token, as the packed encoder's compute does.

What batches take now is followed as TCP follows round-trip times (RFC 6298): an average, and an average of how far
single ones are from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

SMALLEST_SECONDS = 1e-6
LEARNING_RATE = 0.1
DEVIATIONS = 4.0  # RFC 6298's K
FIRST_DEVIATION = 0.5  # RFC 6298's R/2
LARGEST_CORRECTION = 10.0


@dataclass(frozen=True)
class Cost:
    fixed_seconds: float
    token_seconds: float
    correction: float = 1.0  # what batches take now against what the fit says
    deviation: float = FIRST_DEVIATION  # of single batches from that, as a ratio to the fit too

    def seconds(self, *, tokens: int, batches: int = 1) -> float:
        return self.correction * (batches * self.fixed_seconds + tokens * self.token_seconds)

    def cautious_seconds(self, *, tokens: int) -> float:
        """Hardly any batch takes longer than this."""
        return (self.correction + DEVIATIONS * self.deviation) * (self.fixed_seconds + tokens * self.token_seconds)

    def after(self, *, tokens: int, seconds: float) -> "Cost":
        """Learned from one batch more: an exponential average, so that one stall doesn't shed the next requests."""
        expected = max(self.fixed_seconds + tokens * self.token_seconds, SMALLEST_SECONDS)
        ratio = min(max(seconds / expected, 1 / LARGEST_CORRECTION), LARGEST_CORRECTION)
        return replace(
            self,
            correction=(1 - LEARNING_RATE) * self.correction + LEARNING_RATE * ratio,
            deviation=(1 - LEARNING_RATE) * self.deviation + LEARNING_RATE * abs(ratio - self.correction),
        )


def fit(samples: Sequence[tuple[int, float]]) -> Cost:
    """Least squares through (tokens, seconds); neither part is negative. Needs at least one sample."""
    count = len(samples)
    mean_tokens = sum(tokens for tokens, _ in samples) / count
    mean_seconds = sum(seconds for _, seconds in samples) / count
    variance = sum((tokens - mean_tokens) ** 2 for tokens, _ in samples)
    if variance == 0:
        return Cost(fixed_seconds=0.0, token_seconds=max(mean_seconds / max(mean_tokens, 1), SMALLEST_SECONDS))
    slope = sum((tokens - mean_tokens) * (seconds - mean_seconds) for tokens, seconds in samples) / variance
    slope = min(max(slope, SMALLEST_SECONDS), mean_seconds / max(mean_tokens, 1))
    return Cost(fixed_seconds=max(mean_seconds - slope * mean_tokens, 0.0), token_seconds=slope)
