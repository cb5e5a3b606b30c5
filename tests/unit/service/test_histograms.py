"""Quantiles of a window from what pods expose. The expositions are made by the real Prometheus client."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from cycleops.service.histograms import Window, parse, quantile

BOUNDS = (0.01, 0.02, 0.05, 0.1)


class Pod:
    """The metrics of one pod."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._request = Histogram("cycle_request_seconds", "T.", ["outcome"], buckets=BOUNDS, registry=registry)
        self._compute = Histogram("cycle_compute_seconds", "Of one batch.", buckets=BOUNDS, registry=registry)
        self._requests = Counter("cycle_requests", "Answers.", ["outcome", "code"], registry=registry)
        Histogram("unrelated_seconds", "Not ours.", registry=registry).observe(1.0)

    def answer(self, seconds: Sequence[float], outcome: str = "miss") -> None:
        for value in seconds:
            self._request.labels(outcome).observe(value)
            if outcome == "miss":
                self._compute.observe(value / 2)

    def fail(self, code: int) -> None:
        self._requests.labels("bypass", str(code)).inc()

    def scrape(self) -> dict[tuple[str, str], dict[float, float]]:
        return parse(generate_latest(self._registry).decode())


def test_only_our_histograms_are_taken_bucket_by_bucket() -> None:
    pod = Pod()
    pod.answer([0.015, 0.03])
    pod.answer([0.001], outcome="hit")
    scrape = pod.scrape()
    assert set(scrape) == {("pod", "miss"), ("pod", "hit"), ("compute", ""), ("compute sum", "")}
    assert scrape["pod", "miss"] == {0.01: 0, 0.02: 1, 0.05: 1, 0.1: 0, float("inf"): 0}


def test_a_window_holds_what_happened_in_it_over_all_pods() -> None:
    one, two, window = Pod(), Pod(), Window(span_seconds=60)
    one.answer([0.09] * 50)  # before the first scrape: not in the window
    window.add({"a": one.scrape(), "b": two.scrape()}, now=0)
    assert window.measured(percentile=99) is None
    one.answer([0.015] * 98)
    two.answer([0.045, 0.045])
    two.answer([0.001] * 25, outcome="hit")
    for code in (503, 503, 500, 404):
        two.fail(code)
    window.add({"a": one.scrape(), "b": two.scrape()}, now=15)
    measured = window.measured(percentile=90)
    assert measured is not None
    assert (measured.requests, measured.errors, measured.hits) == (125, 3, 25)
    assert (measured.window_seconds, measured.ended_at) == (15, 15)
    assert 10 <= measured.terms["total"].p50 <= 20
    assert 20 < measured.terms["total"].p99 <= 50
    assert 10 <= measured.terms["total"].budgeted <= 20
    assert set(measured.terms) == {"total", "compute"}


def test_a_pod_that_restarted_counts_from_zero_again() -> None:
    window, before = Window(span_seconds=60), Pod()
    before.answer([0.015] * 10)
    window.add({"a": before.scrape()}, now=0)
    after = Pod()
    after.answer([0.03] * 4)
    window.add({"a": after.scrape()}, now=15)
    measured = window.measured(percentile=99)
    assert measured is not None
    assert measured.requests == 4


def test_old_requests_leave_the_window_and_memory() -> None:
    window, pod = Window(span_seconds=60), Pod()
    window.add({"a": pod.scrape()}, now=0)
    pod.answer([0.015] * 10)
    for i in range(1, 100):
        window.add({"a": pod.scrape()}, now=15 * i)
    assert window.measured(percentile=99) is None
    assert len(window._intervals) == 4
    window.add({}, now=15 * 100)
    assert not window._last


@given(st.lists(st.floats(0.0001, 0.09), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_the_quantile_lies_in_the_bucket_of_the_true_one(times: list[float], share: float) -> None:
    pod = Pod()
    pod.answer(times)
    found = quantile(pod.scrape()["pod", "miss"], share)
    ordered = sorted(times)
    index = next(i for i in range(len(ordered)) if (i + 1) >= share * len(ordered) - 1e-9)
    edges = (0.0, *BOUNDS)
    low, high = next((a, b) for a, b in zip(edges, edges[1:], strict=False) if ordered[index] <= b)
    assert found is not None
    assert low - 1e-9 <= found <= high + 1e-9


def test_no_request_has_no_quantile_and_beyond_the_last_bound_is_the_bound() -> None:
    assert quantile({0.1: 0, float("inf"): 0}, 0.5) is None
    assert quantile({0.1: 1, float("inf"): 9}, 0.99) == 0.1


def test_what_is_no_exposition_is_an_error() -> None:
    with pytest.raises(ValueError):
        parse("<html>not metrics</html>")
