"""T as the real balancer measures, says and counts it. The pods are told how long they shall take and say they took."""

import asyncio
import time

import pytest
from multidict import CIMultiDictProxy

from cycle_wire.buckets import time_buckets
from cycleops.service.haproxy_times import OUTCOMES, PAGES, page_files
from cycleops.service.histograms import Series, parse
from tests.unit.service.conftest import Running


def terms(headers: CIMultiDictProxy[str]) -> dict[str, float]:
    """Milliseconds by term; terms of the same name add up."""
    result: dict[str, float] = {}
    for entry in headers["Server-Timing"].split(", "):
        name, duration = entry.split(";dur=")
        result[name] = result.get(name, 0.0) + float(duration)
    return result


async def counts(running: Running) -> dict[Series, dict[float, float]]:
    pages = [(await running.admin(path))[1] for path in PAGES]
    return parse("".join(pages))


def say(running: Running, outcome: str, *, elapsed_microseconds: int, terms_microseconds: int) -> None:
    for pod in running.pods:
        pod.said = {
            "X-Cycle-Cache": outcome,
            "X-Cycle-Elapsed-Us": str(elapsed_microseconds),
            "X-Cycle-Terms-Us": str(terms_microseconds),
        }


async def test_total_is_the_balancers_and_transport_is_what_the_pod_did_not_have(running: Running) -> None:
    say(running, "miss", elapsed_microseconds=1_705, terms_microseconds=1_700)
    for pod in running.pods:
        pod.delay_seconds = 0.005
    started = time.perf_counter()
    _, _, headers = await running.ask()
    outside = 1000 * (time.perf_counter() - started)
    found = terms(headers)
    assert found["total"] == pytest.approx(found["transport"] + 1.705, abs=0.0011)
    assert 1.705 < found["total"] <= outside
    assert not {"X-Cycle-Elapsed-Us", "X-Cycle-Terms-Us"} & headers.keys()


async def test_the_time_a_pod_takes_is_in_the_total(running: Running) -> None:
    for pod in running.pods:
        pod.delay_seconds = 0.05
    assert terms((await running.ask())[2])["total"] >= 50


async def test_answers_are_counted_by_outcome_in_buckets(running: Running) -> None:
    for index, outcome in enumerate(OUTCOMES):
        say(running, outcome, elapsed_microseconds=50, terms_microseconds=0 if outcome == "hit" else 20)
        for _ in range(index + 1):
            await running.ask()
    found = await counts(running)
    assert {series: sum(c.values()) for series, c in found.items()} == {
        ("service", "hit"): 1, ("service", "miss"): 2, ("service", "coalesced"): 3, ("service", "bypass"): 4,
        ("overhead", ""): 9,
    }  # fmt: skip
    assert set(found["service", "hit"]) == {*time_buckets(300), float("inf")}


async def test_a_slow_answer_is_in_the_bucket_of_its_total(running: Running) -> None:
    say(running, "miss", elapsed_microseconds=60_000, terms_microseconds=55_000)
    for pod in running.pods:
        pod.delay_seconds = 0.06
    total = terms((await running.ask())[2])["total"] / 1000
    found = await counts(running)
    bounds = [0.0, *time_buckets(300)]
    low, high = next((low, high) for low, high in zip(bounds, bounds[1:], strict=False) if total <= high)
    assert {bound for bound, count in found["service", "miss"].items() if count} == {high}
    assert low < total
    over = next(bound for bound, count in found["overhead", ""].items() if count)
    assert total - 0.055 <= over


async def test_errors_and_what_is_no_inference_are_not_counted(running: Running) -> None:
    await running.ask()  # no outcome
    for pod in running.pods:
        pod.status = 500
    say(running, "miss", elapsed_microseconds=50, terms_microseconds=20)
    await running.ask()
    say(running, "nonsense", elapsed_microseconds=50, terms_microseconds=20)
    for pod in running.pods:
        pod.status = 200
    await running.ask()
    assert sum(sum(c.values()) for (term, _), c in (await counts(running)).items() if term == "service") == 0


@pytest.mark.parametrize("running", [{"budget_milliseconds": 10_000}], indirect=True)  # none is late, however busy
async def test_many_at_once_are_all_counted(running: Running) -> None:
    say(running, "miss", elapsed_microseconds=50, terms_microseconds=20)
    answers = await asyncio.gather(*(running.ask() for _ in range(200)))
    # On a busy machine the balancer itself refuses some, which never saw a pod.
    served = sum(status == 200 for status, _, _ in answers)
    assert served > 0
    assert sum((await counts(running))["service", "miss"].values()) == served


def test_a_page_fits_into_a_buffer_whatever_it_counted() -> None:
    for budget in (0.01, 1, 80, 2_000, 600_000, 6_000_000):
        assert all(len(text) < 16_384 for text in page_files(time_buckets(budget)).values())
        # What comes out has a number for each expression: ten digits at most.
        longest = page_files(time_buckets(budget))["times.lf"]
        shown = [line.split(" %[")[0] + " 4294967295" for line in longest.splitlines()]
        assert len("\n".join(shown)) < 16_384 - 1024 - 256
