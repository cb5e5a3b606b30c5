"""The headers that say who asks and how urgent it is."""

import pytest

from cycle_server.batching.policy import Flow, Priority
from cycle_server.protocol.errors import ProtocolError
from cycle_server.server.caller import budget_seconds, flow_of


@pytest.mark.parametrize(
    ("tenant", "priority", "expected"),
    [
        (None, None, Flow()),
        ("", "", Flow()),
        ("team-a", None, Flow(tenant="team-a")),
        ("a@b/c", " Batch", Flow(Priority.BATCH, "a@b/c")),
        (None, "interactive", Flow(Priority.INTERACTIVE)),
    ],
)
def test_what_is_read(tenant: str | None, priority: str | None, expected: Flow) -> None:
    assert flow_of(tenant=tenant, priority=priority) == expected


@pytest.mark.parametrize(
    ("tenant", "priority", "field"),
    [
        ("a b", None, "X-Cycle-Tenant"),
        ("é", None, "X-Cycle-Tenant"),
        ("x" * 129, None, "X-Cycle-Tenant"),
        (None, "urgent", "X-Cycle-Priority"),
        (None, "0", "X-Cycle-Priority"),
    ],
)
def test_what_is_refused_names_the_header(tenant: str | None, priority: str | None, field: str) -> None:
    with pytest.raises(ProtocolError) as error:
        flow_of(tenant=tenant, priority=priority)
    assert error.value.field == field


def test_work_that_has_time_may_wait_longer() -> None:
    assert budget_seconds(Flow(), budget_milliseconds=100) == pytest.approx(0.1)
    assert budget_seconds(Flow(Priority.BATCH), budget_milliseconds=100) == pytest.approx(0.2)
