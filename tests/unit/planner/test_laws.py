"""The fitted functions against laws that are known."""

import numpy as np
import pytest

from cycle_wire.profile import ProfileRow
from cycleops.planner.laws import fit_compute, fit_line, fit_profile, non_negative_fit
from cycleops.planner.service_time import service_times
from tests.unit.planner.profiles import histogram, profile

LAW = (0.002, 0.0004, 1e-13, 3e-8)  # per call, input, parameter and token, pair of tokens
PARAMETERS = 22_000_000


def seconds(batch: float, tokens: float, parameters: float = PARAMETERS) -> float:
    return LAW[0] + LAW[1] * batch + LAW[2] * parameters * batch * tokens + LAW[3] * batch * tokens**2


def rows(parameters: int = PARAMETERS) -> list[tuple[int, int, int, float]]:
    return [
        (parameters, batch, tokens, seconds(batch, tokens, parameters))
        for batch in (1, 4, 16)
        for tokens in (16, 64, 128, 512)
    ]


def test_a_law_is_found_again() -> None:
    law = fit_compute(rows())
    assert law.residual < 1e-9
    assert law.seconds(parameters=PARAMETERS, batch_size=8, tokens=100) == pytest.approx(seconds(8, 100))


def test_one_law_across_sizes_of_a_model_says_what_another_size_would_take() -> None:
    """Which the rows of one size can't tell: parameters and tokens are one term there."""
    law = fit_compute([*rows(), *rows(66_000_000), *rows(5_000_000)])
    assert law.coefficients == pytest.approx(LAW, rel=1e-6)
    assert law.seconds(parameters=110_000_000, batch_size=2, tokens=64) == pytest.approx(seconds(2, 64, 110_000_000))


def test_noise_is_in_the_residual() -> None:
    noise = np.random.default_rng(2).normal(1, 0.05, 12)
    law = fit_compute([(p, b, n, s * k) for (p, b, n, s), k in zip(rows(), noise, strict=True)])
    assert 0.02 < law.residual < 0.06
    assert law.rows == 12


def test_nothing_takes_less_than_no_time() -> None:
    """Least squares alone would give a falling line a negative slope."""
    line = fit_line([(16, 0.003), (32, 0.002), (64, 0.001)])
    assert min(line.coefficients) >= 0
    assert line.size_of(0.002) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_fit_is_the_best_of_all_that_are_not_negative(seed: int) -> None:
    """No step to a feasible neighbour is better: the optimality condition of a convex problem."""
    stream = np.random.default_rng(seed)
    terms, times = stream.random((9, 4)), stream.random(9) + 0.1
    coefficients, residual = non_negative_fit(terms, times)
    relative = terms / times[:, None]
    slope = relative.T @ (relative @ np.array(coefficients) - 1)
    assert (slope >= -1e-9).all()
    assert slope @ np.array(coefficients) == pytest.approx(0, abs=1e-9)
    assert residual == pytest.approx(float(np.sqrt(np.mean((relative @ np.array(coefficients) - 1) ** 2))))


def test_the_terms_of_a_profile() -> None:
    """The synthetic profile's pre is 0.3 ms and 4 us a token; what takes 0.46 ms are 40 tokens."""
    laws = fit_profile(profile())
    assert laws.pre.coefficients == pytest.approx((0.0003, 4e-6), rel=0.1)
    assert laws.pre.size_of(0.0003 + 40 * 4e-6) == pytest.approx(40, rel=0.1)
    assert laws.post.seconds(1.0) == pytest.approx(0.0001, rel=0.05)
    assert laws.compute.residual < 0.03


def test_between_rows_the_law_bends_as_attention_does() -> None:
    """Measured at 16 and 512 tokens, asked at 256: a straight line would be 40 % off."""
    template = profile().rows[0]
    measured = [
        ProfileRow(
            batch_size=batch,
            sequence_length=tokens,
            pace=row.pace,
            pre=template.pre,
            compute=histogram(seconds(batch, tokens), cv=0.02, seed=batch + tokens),
            post=template.post,
        )
        for batch in (1, 8)
        for tokens in (16, 64, 512)
        for row in profile().rows[:2]
    ]
    times = service_times(profile().model_copy(update={"rows": measured}))
    mean = times.mean_compute_seconds(batch_size=4, lengths=np.array([256.0]), heavy=0.0)[0]
    assert mean == pytest.approx(seconds(4, 256), rel=0.05)
    far = times.mean_compute_seconds(batch_size=1, lengths=np.array([700.0]), heavy=0.0)[0]
    assert far == pytest.approx(seconds(1, 700), rel=0.05)
