"""A pod with several workers carries as much as so many pods with one; it is priced as one."""

from dataclasses import replace

import pytest

from cycleops.planner.model import Budget, Candidate, Limits, Pinned, Workload
from cycleops.planner.planning import plan
from tests.unit.planner.profiles import candidate

WORKLOAD = Workload(rate_per_second=900, input_tokens_p50=24, input_tokens_p99=48)
BUDGET = Budget(percentile=99, latency_milliseconds=80)


def with_workers(count: int) -> Candidate:
    one = candidate()
    return replace(one, profile=one.profile.model_copy(update={"workers": count}))


def test_two_workers_halve_the_pods() -> None:
    limits = Limits(maximum_replicas=16)
    single = plan(workload=WORKLOAD, budget=BUDGET, candidates=[with_workers(1)], limits=limits).plan
    double = plan(workload=WORKLOAD, budget=BUDGET, candidates=[with_workers(2)], limits=limits).plan
    assert single is not None and double is not None
    assert single.replicas > 2
    assert double.replicas == -(-single.replicas // 2)
    assert double.cost_per_hour < single.cost_per_hour
    assert double.predicted.sized_at_ms <= BUDGET.latency_milliseconds


def test_the_load_is_that_of_each_worker() -> None:
    limits, pinned = Limits(minimum_replicas=8, maximum_replicas=8), Pinned(batch_size=4)
    loads = []
    for count in (1, 2):
        found = plan(
            workload=WORKLOAD, budget=BUDGET, candidates=[with_workers(count)], limits=limits, pinned=pinned
        ).plan
        assert found is not None
        loads.append(found.predicted.load)
    assert loads[1] == pytest.approx(loads[0] / 2)
