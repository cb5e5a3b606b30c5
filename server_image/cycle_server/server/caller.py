"""Who sends a request and how urgent it is: two headers, the same names in gRPC's metadata.

A tenant is whoever says so: where tenants don't trust each other, what stands before the pods has to set the header.
"""

import re

from cycle_server.batching.policy import Flow, Priority
from cycle_server.protocol.errors import ProtocolError
from cycle_wire.headers import PRIORITY_HEADER, TENANT_HEADER

_TENANT = re.compile(r"[!-~]{1,128}")
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}
# Of the server's budget, which is four latency budgets; the balancer gives up after ten times the server's.
_PATIENCE = {Priority.INTERACTIVE: 1.0, Priority.BATCH: 2.0}


def flow_of(*, tenant: str | None, priority: str | None) -> Flow:
    """Both as they came; None or empty: not given. Raises ProtocolError with the header's name."""
    if tenant and not _TENANT.fullmatch(tenant):
        raise ProtocolError("must be 1 to 128 visible ASCII characters", field=TENANT_HEADER)
    name = (priority or Priority.INTERACTIVE.name).strip().lower()
    if name not in _PRIORITIES:
        raise ProtocolError(f"must be one of {', '.join(_PRIORITIES)}", field=PRIORITY_HEADER)
    return Flow(priority=_PRIORITIES[name], tenant=tenant or "")


def budget_seconds(flow: Flow, *, budget_milliseconds: float) -> float:
    """How long the server lets a request of this flow wait at most."""
    return _PATIENCE[flow.priority] * budget_milliseconds / 1000
