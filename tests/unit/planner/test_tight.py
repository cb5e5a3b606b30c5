"""Near full load a small error of the profile is a large one of the wait: there the plan has room for more requests."""

from dataclasses import replace

import pytest

from cycleops.planner import Pinned, Plan, Settings
from tests.unit.planner.profiles import candidate
from tests.unit.planner.test_plan import QUICK, ask, latency, rate

BUDGET = 400.0
MORE = QUICK.tight_growth
RATES = [120.0 + 15.0 * i for i in range(24)]


def planned(per_second: float, *, milliseconds: float = BUDGET, settings: Settings = QUICK) -> Plan | None:
    only = [candidate("fp32", base_seconds=0.02)]
    return ask(only, workload=rate(per_second), budget=latency(milliseconds), settings=settings).plan


def tight_plans() -> list[tuple[float, Plan]]:
    plans = [(per_second, planned(per_second)) for per_second in RATES]
    return [(r, one) for r, one in plans if one is not None and one.predicted.load > QUICK.tight_from]


def test_a_tight_plan_also_holds_the_budget_with_more_requests() -> None:
    found = tight_plans()
    assert found
    for per_second, chosen in found:
        assert chosen.predicted.load <= QUICK.maximum_utilization
        pinned = Pinned(
            variant="fp32", hardware="cpu-small", batch_size=chosen.batch_size, replicas=chosen.replicas,
            delay_milliseconds=chosen.delay_milliseconds,
        )  # fmt: skip
        result = ask(
            [candidate("fp32", base_seconds=0.02)],
            workload=rate(MORE * per_second),
            budget=latency(BUDGET),
            pinned=pinned,
            settings=replace(QUICK, maximum_utilization=0.95, tight_from=1.0),
        )
        assert result.plan is not None
        assert result.plan.predicted.sized_at_ms <= BUDGET
        assert chosen.predicted.sized_at_ms >= result.plan.predicted.sized_at_ms - 1e-9


def test_what_holds_only_without_more_requests_gets_another_replica() -> None:
    careless = planned(240, milliseconds=200, settings=replace(QUICK, tight_from=QUICK.maximum_utilization))
    careful = planned(240, milliseconds=200)
    assert careless is not None
    assert careful is not None
    assert careless.predicted.load > QUICK.tight_from >= careful.predicted.load
    assert careful.replicas > careless.replicas


def test_a_tight_plan_says_so() -> None:
    per_second, chosen = tight_plans()[0]
    result = ask([candidate("fp32", base_seconds=0.02)], workload=rate(per_second), budget=latency(BUDGET))
    assert result.plan == chosen
    said = f"The rate is {chosen.predicted.load:.0%} of what full batches carry"
    assert any(said in sentence and "5% more requests" in sentence for sentence in result.sentences)


@pytest.mark.parametrize("growth", [1.0, 1.2])
def test_room_for_more_must_be_possible(growth: float) -> None:
    with pytest.raises(ValueError, match="tight_growth"):
        Settings(tight_growth=growth)
