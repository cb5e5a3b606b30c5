"""How long a pod takes to start, as adaptation counts on it."""

from dataclasses import replace

from cycleops.service.adapting import begun
from tests.unit.service.test_adapting import SERVICE, fed


def test_the_start_that_pods_showed_counts_when_it_is_longer() -> None:
    slow = replace(SERVICE, startup_seconds=300.0)
    memory = fed(begun(slow), 60.0, service=slow).memory
    assert memory.startup_seconds == 300.0
    held = fed(memory, 10.0, scrapes=30, at=1e9 + 180, service=replace(slow, startup_seconds=None))
    assert held.decision.replicas >= memory.state.replicas  # two start-ups are ten minutes
    quick = fed(memory, 10.0, scrapes=30, at=1e9 + 180).decision
    assert quick.replicas >= memory.state.replicas  # and what was seen once is remembered


def test_an_outage_in_which_all_pods_waited_is_no_start() -> None:
    memory = fed(begun(SERVICE), 60.0, service=replace(SERVICE, startup_seconds=12.0)).memory
    back = fed(memory, 10.0, scrapes=1, at=1e9 + 900, service=replace(SERVICE, startup_seconds=600.0)).memory
    assert back.startup_seconds == 12.0
