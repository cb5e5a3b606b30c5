"""A profile's rows of generation as functions: exact at the rows, by the law between them."""

import numpy as np
import pytest

from cycle_wire.profile import Histogram
from cycleops.planner.generation.laws import fit_polynomial, fit_step
from cycleops.planner.generation.times import context_of, generation_times, step_mean_seconds
from cycleops.planner.histograms import LEVELS
from cycleops.planner.service_time import IncompleteProfileError
from tests.unit.planner.generation.profiles import (
    CONCURRENCIES,
    OUTPUTS,
    PROMPTS,
    generation_profile,
    prefill_seconds,
    step_seconds,
)
from tests.unit.planner.profiles import histogram


def test_laws_find_what_made_the_rows() -> None:
    rows = [(k, x, step_seconds(0.01, k, x)) for k in (1, 4, 16) for x in (40.0, 200.0, 600.0)]
    law = fit_step(rows)
    assert law.coefficients == pytest.approx((0.005, 0.004, 5e-6))
    assert law.residual < 1e-9
    curve = fit_polynomial([(n, prefill_seconds(0.01, n)) for n in (16, 64, 256, 1024)], degree=2)
    assert curve.coefficients == pytest.approx((0.01, 0.0005, 1e-7))


def test_at_the_rows_stands_what_was_measured() -> None:
    profile = generation_profile()
    times = generation_times(profile)
    for row in profile.generation:
        step = times.step_seconds(running=row.concurrency, context=context_of(row))
        assert float(step) == pytest.approx(step_mean_seconds(row), rel=1e-6)
    for prompt in PROMPTS:
        assert float(times.prefill.mean(prompt)) == pytest.approx(prefill_seconds(0.01, prompt), rel=0.02)
    assert times.concurrencies == CONCURRENCIES
    assert times.longest_prompt == PROMPTS[-1]
    assert times.longest_context == PROMPTS[-1] + OUTPUTS[-1]


@pytest.mark.parametrize(("running", "context"), [(3, 100), (6, 60), (12, 400), (1, 300)])
def test_between_the_rows_the_law_holds(running: int, context: float) -> None:
    times = generation_times(generation_profile())
    expected = step_seconds(0.01, running, context)
    assert float(times.step_seconds(running=running, context=context)) == pytest.approx(expected, rel=0.03)
    assert times.residual < 0.02


def test_the_table_of_the_simulation_is_the_same_function() -> None:
    times = generation_times(generation_profile())
    steps = times.steps(most_sequences=8, longest=640, seed=1)
    contexts = np.arange(steps.seconds.shape[1]) * steps.width
    assert contexts[-1] == pytest.approx(640)
    for running in (1, 5, 8):
        expected = times.step_seconds(running=running, context=contexts)
        assert steps.seconds[running] == pytest.approx(expected)
    assert steps.luck.mean() == pytest.approx(1, rel=0.01)
    assert steps.shared == pytest.approx(0.005, rel=0.1)


def test_noise_never_makes_more_sequences_faster() -> None:
    profile = generation_profile()
    slow = {row.concurrency: row.per_token.mean_seconds() for row in profile.generation}[4]
    rows = [
        row.model_copy(update={"per_token": Histogram.of([slow / 2] * 50)}) if row.concurrency == 8 else row
        for row in profile.generation
    ]
    times = generation_times(profile.model_copy(update={"generation": rows}))
    context = context_of(rows[0])
    assert times.step_seconds(running=8, context=context) >= times.step_seconds(running=4, context=context)


def test_steps_with_a_prompt_of_others_are_no_steps_of_decoding() -> None:
    """Eight sequences of 64 tokens: of their gaps, 7 / 64 have a prompt in them."""
    row = next(row for row in generation_profile(outputs=(64,)).generation if row.concurrency == 8)
    plain = histogram(0.04, cv=0.05, samples=5_700)
    mixed = [*np.repeat(plain.values_seconds(), plain.counts), *[0.15] * 700]
    found = step_mean_seconds(row.model_copy(update={"prompt_tokens": 100, "per_token": Histogram.of(mixed)}))
    assert found == pytest.approx(0.04, rel=0.01)
    alone = row.model_copy(update={"concurrency": 1, "per_token": plain})
    assert step_mean_seconds(alone) == pytest.approx(plain.mean_seconds())


def test_luck_has_the_spread_of_the_rows() -> None:
    times = generation_times(generation_profile(cv=0.2))
    assert times.prefill.shape.mean() == pytest.approx(1)
    assert times.prefill.shape.std() == pytest.approx(0.2, rel=0.15)
    levels = np.arange(LEVELS)
    assert times.prefill.seconds(np.full(LEVELS, 128), levels).mean() == pytest.approx(float(times.prefill.mean(128)))


def test_a_lonely_sequence_must_have_been_measured() -> None:
    with pytest.raises(IncompleteProfileError, match="concurrency 1"):
        generation_times(generation_profile(concurrencies=(2, 4)))
