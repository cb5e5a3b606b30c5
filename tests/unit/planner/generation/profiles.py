"""Synthetic profiles of a model that generates, by a law that is known: what is planned from them can be checked."""

from functools import cache

from cycle_wire.profile import GenerationRow, MetricValue, Profile
from cycleops.planner import Candidate, HardwareOption
from tests.unit.planner.profiles import histogram, profile

CONCURRENCIES = (1, 2, 4, 8, 16)
PROMPTS = (32, 128, 512)
OUTPUTS = (16, 128)


def step_seconds(base: float, running: float, context: float) -> float:
    """Half of a lonely step is reading the weights."""
    return base * (0.5 + 0.4 * running + 0.0005 * running * context)


def prefill_seconds(base: float, prompt: float) -> float:
    return base * (1.0 + 0.05 * prompt + 1e-5 * prompt**2)


@cache
def generation_profile(
    variant: str = "fp32",
    *,
    base_seconds: float = 0.01,
    accuracy: float = 0.6,
    hardware: str = "cpu-small",
    concurrencies: tuple[int, ...] = CONCURRENCIES,
    prompts: tuple[int, ...] = PROMPTS,
    outputs: tuple[int, ...] = OUTPUTS,
    cv: float = 0.05,
) -> Profile:
    rows = [
        GenerationRow(
            concurrency=concurrency,
            prompt_tokens=prompt,
            output_tokens=output,
            pre=histogram(0.0003 + prompt * 2e-6),
            first_token=histogram(prefill_seconds(base_seconds, prompt), cv=cv, seed=prompt),
            per_token=histogram(
                step_seconds(base_seconds, concurrency, prompt + output / 2), cv=cv, samples=2000, seed=concurrency
            ),
            post=histogram(0.0001 + output * 1e-6),
        )
        for concurrency in concurrencies
        for prompt in prompts
        for output in outputs
    ]
    content = {
        "rows": [],
        "generation": rows,
        "metrics": [MetricValue(name="accuracy", value=accuracy, rows=3000)],
    }
    return profile(variant, hardware=hardware).model_copy(update=content)


def generating(
    variant: str = "fp32",
    *,
    base_seconds: float = 0.01,
    accuracy: float = 0.6,
    hardware: str = "cpu-small",
    cost_per_hour: float = 0.02,
    maximum_replicas: int | None = None,
) -> Candidate:
    return Candidate(
        profile=generation_profile(variant, base_seconds=base_seconds, accuracy=accuracy, hardware=hardware),
        hardware=HardwareOption(name=hardware, cost_per_hour=cost_per_hour, maximum_replicas=maximum_replicas),
    )
