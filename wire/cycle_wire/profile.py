"""One variant measured on one hardware class: what the planner plans from.

Times are kept as histograms because quantiles don't add. All histograms share one grid: bucket i holds times t with
GROWTH**i <= t/1us < GROWTH**(i+1), so a bucket's geometric middle is within 1 % of every time in it.
"""

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import Field, model_validator

from cycle_wire.base import Digest, Name, WireModel

GROWTH = 1.02
MAXIMUM_BUCKET = 1024  # GROWTH**1024 us is 640 s


class Histogram(WireModel):
    """Sparse histogram of times. ``buckets`` rises; ``counts`` has the same length."""

    buckets: list[int] = Field(default_factory=list, max_length=400)
    counts: list[int] = Field(default_factory=list, max_length=400)

    @model_validator(mode="after")
    def _same_length(self) -> "Histogram":
        if len(self.buckets) != len(self.counts):
            raise ValueError("buckets and counts differ in length")
        if any(b <= a for a, b in zip(self.buckets, self.buckets[1:], strict=False)):
            raise ValueError("buckets must rise")
        return self

    @classmethod
    def of(cls, times_seconds: Iterable[float]) -> "Histogram":
        counter = Counter(bucket_of(t) for t in times_seconds)
        keys = sorted(counter)
        return cls(buckets=keys, counts=[counter[k] for k in keys])

    @property
    def count(self) -> int:
        return sum(self.counts)

    def values_seconds(self) -> list[float]:
        """The geometric middle of each bucket."""
        return [GROWTH ** (b + 0.5) * 1e-6 for b in self.buckets]

    def mean_seconds(self) -> float:
        return sum(v * c for v, c in zip(self.values_seconds(), self.counts, strict=True)) / max(self.count, 1)

    def quantile_seconds(self, q: float) -> float:
        """The smallest bucket middle with at least a share q (0 to 1) of the times at or below it; 0 when empty."""
        target, seen = q * self.count, 0
        values = self.values_seconds()
        for value, count in zip(values, self.counts, strict=True):
            seen += count
            if seen >= target:
                return value
        return values[-1] if values else 0.0


def bucket_of(time_seconds: float) -> int:
    microseconds = max(time_seconds * 1e6, 1.0)
    return min(int(math.log(microseconds) / math.log(GROWTH)), MAXIMUM_BUCKET)


class Pace(StrEnum):
    """Paced: with pauses, as a lightly loaded server runs. Saturated: back to back."""

    PACED = "Paced"
    SATURATED = "Saturated"


class ProfileRow(WireModel):
    """Terms of one (batch size, sequence length): pre and post of one request, compute of one batch."""

    batch_size: int = Field(ge=1, le=4096)
    sequence_length: int = Field(ge=1, le=1_048_576)
    pace: Pace
    pre: Histogram
    compute: Histogram
    post: Histogram


class GenerationRow(WireModel):
    """A causal language model generating by continuous batching, ``concurrency`` sequences under way all the time.

    Times are of one sequence. Every sequence has ``prompt_tokens`` and is given ``output_tokens``.
    """

    concurrency: int = Field(ge=1, le=4096)
    prompt_tokens: int = Field(ge=1, le=1_048_576)
    output_tokens: int = Field(ge=1, le=1_048_576)
    pre: Histogram = Field(description="Chat template and tokenizing.")
    first_token: Histogram = Field(description="From the scheduler's taking the sequence to its first token: prefill.")
    per_token: Histogram = Field(description="Between two tokens of one sequence: a step of decoding.")
    post: Histogram = Field(description="Detokenizing and writing, of the whole answer.")


class MetricValue(WireModel):
    name: str = Field(max_length=63)
    value: float
    rows: int = Field(ge=0, description="Evaluation rows behind the value.")


class Profile(WireModel):
    model_digest: Digest
    variant: Name
    hardware_class: Name
    hardware_class_hash: str = Field(max_length=64, description="Hash of the class's spec at the time of measuring.")
    image: str = Field(max_length=512, description="Server image that measured.")
    server_settings_hash: str = Field(max_length=64)
    rows: list[ProfileRow] = Field(max_length=512, description="Empty for a model that generates.")
    generation: list[GenerationRow] = Field(
        default_factory=list, max_length=256, description="Of a model that generates; empty for others."
    )
    overhead: Histogram = Field(
        description="Paced requests of batch 1 over HTTP through the cache sidecar (a miss): "
        "total less pre, compute, post. An idle server's hand-over between threads is in it."
    )
    cache_hit: Histogram = Field(description="Paced requests answered by the cache sidecar: total.")
    overhead_cpu_seconds: float = Field(
        0.0,
        ge=0,
        description="CPU time of server and sidecar per request of the overhead, in the mean; 0: not measured.",
    )
    cache_hit_cpu_seconds: float = Field(
        0.0, ge=0, description="CPU time of the sidecar per request that the cache answers; 0: not measured."
    )
    metrics: list[MetricValue] = Field(max_length=32, description="Accuracy with the serving engine on this hardware.")
    parameters: int = Field(ge=0)
    size_bytes: int = Field(ge=0)
    sparsity: float = Field(ge=0, le=1)
    memory_bytes: int = Field(ge=0, description="Peak resident set of server and sidecar.")
    startup_seconds: float = Field(ge=0, description="From process start to ready after warm-up.")
    batch_invariant: bool = Field(description="Answers don't depend on batch neighbours (within the tolerance).")
    neighbour_difference: float = Field(
        ge=0,
        description="Largest change of a probability by other batch neighbours; of a translator, the share of texts "
        "that it then translates otherwise.",
    )
    workers: int = Field(
        1, ge=1, le=256, description="Processes that compute in one pod; all did while the rows were measured."
    )
    threads: int = Field(ge=1, description="Of each worker.")
    processor: str = Field(max_length=256, description="Model name that the machine gives.")
    measured_at: datetime
