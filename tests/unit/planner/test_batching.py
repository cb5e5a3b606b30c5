"""When batches close, by hand: requests ready at told times, a batch of n takes n seconds (or what the lengths say)."""

import numpy as np
import pytest

from cycleops.planner.simulation.queues import Served, serve_batches
from cycleops.planner.simulation.rules import Rules, table_of

TABLE = table_of(  # a batch of n takes n seconds with short inputs, 10 n with long ones (10 tokens or more)
    np.array([[[float(size)], [10.0 * size]] for size in range(9)]), np.array([0] * 10 + [1] * 91)
)


def served(ready: list[float], *, maximum_batch: int, delay: float = 0.0, tokens: list[int] | None = None) -> Served:
    lengths = np.array(tokens or [1] * len(ready))
    return serve_batches(
        ready=np.array(ready),
        tokens=lengths,
        level=np.zeros(len(ready), dtype=int),
        table=TABLE,
        rules=Rules(maximum_batch=maximum_batch, delay_seconds=delay),
    )


def test_an_idle_server_starts_at_once_and_the_rest_gathers_meanwhile() -> None:
    result = served([0.0, 0.1, 0.2, 0.9, 5.0], maximum_batch=8)
    assert result.start.tolist() == [0.0, 1.0, 1.0, 1.0, 5.0]
    assert result.compute.tolist() == [1.0, 3.0, 3.0, 3.0, 1.0]
    assert (result.batches, result.busy_seconds) == (3, 5.0)


def test_a_batch_is_never_larger_than_allowed() -> None:
    result = served([0.0, 0.1, 0.2, 0.3, 0.4], maximum_batch=2)
    assert result.start.tolist() == [0.0, 1.0, 1.0, 3.0, 3.0]


def test_a_batch_waits_until_the_oldest_has_waited_enough() -> None:
    result = served([0.0, 0.3, 0.7], maximum_batch=8, delay=0.5)
    assert result.start.tolist() == [0.5, 0.5, 2.5]


def test_a_full_batch_waits_no_longer() -> None:
    assert served([0.0, 0.3, 9.0], maximum_batch=2, delay=0.5).start.tolist() == [0.3, 0.3, 9.5]


def test_waiting_for_the_compute_thread_counts_as_waiting() -> None:
    """Both are older than the delay when the thread is free again."""
    assert served([0.0, 0.6, 0.7], maximum_batch=8, delay=0.1).start.tolist() == [0.1, 1.1, 1.1]


def test_requests_run_in_the_order_in_which_they_are_ready() -> None:
    assert served([0.5, 0.0, 0.2], maximum_batch=1).start.tolist() == [2.0, 0.0, 1.0]


def test_a_batch_costs_what_its_mean_length_costs() -> None:
    """Packed without padding: 1 and 3 tokens are short in the mean, 1 and 30 are long."""
    assert served([0.0, 0.0], maximum_batch=2, tokens=[1, 3]).compute.tolist() == [2.0, 2.0]
    assert served([0.0, 0.0], maximum_batch=2, tokens=[1, 30]).compute.tolist() == [20.0, 20.0]


@pytest.mark.parametrize("maximum_batch", [1, 3])
def test_no_request_is_lost_or_served_before_it_is_ready(maximum_batch: int) -> None:
    ready = np.random.default_rng(0).uniform(0, 50, 200)
    result = served(ready.tolist(), maximum_batch=maximum_batch)
    assert (result.start >= ready - 1e-9).all()
    starts, counts = np.unique(np.round(result.start, 9), return_counts=True)
    assert counts.sum() == 200
    assert counts.max() <= maximum_batch
    assert len(starts) == result.batches
    assert (np.diff(starts) >= counts[:-1] - 1e-6).all()  # one compute thread
