"""What is predicted and then measured of a model that generates."""

from dataclasses import dataclass

SEQUENCES = 8  # under way at once
PERCENTILE = 99.0
INPUT_TOKENS_P50, INPUT_TOKENS_P99, LONGEST_INPUT = 16, 64, 80
OUTPUT_TOKENS_P50, OUTPUT_TOKENS_P99, LONGEST_OUTPUT = 24, 64, 128
VARIANT = "fp32"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``load``: the rate as a share of what the server carries with all its places taken. ``seed``: of what is sent."""

    load: float
    seed: int

    @property
    def name(self) -> str:
        return f"generation-{100 * self.load:.0f}"


SCENARIOS = (Scenario(load=0.3, seed=601), Scenario(load=0.5, seed=602), Scenario(load=0.7, seed=603))
