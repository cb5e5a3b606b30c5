"""All children of a CycleService, from what is to be deployed. Pure: no I/O, no clock."""

from collections.abc import Mapping, Sequence

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.controller.kinds import POD_DISRUPTION_BUDGET
from cycleops.controller.reconcile import Owner
from cycleops.controller.store import Facts
from cycleops.service.balancer import balancer_children
from cycleops.service.children import Body
from cycleops.service.deployed import Deployed
from cycleops.service.server import server_children
from cycleops.service.settings import ServiceSettings


def desired_children(
    *,
    owner: Owner,
    spec: CycleServiceSpec,
    deployed: Deployed,
    hardware: HardwareClassSpec,
    settings: ServiceSettings,
    secrets: Mapping[str, str],
) -> list[Body]:
    """Servers and balancers. ``secrets``: versions of those that the balancers mount, by name.

    The order is that of reading, not of writing.
    """
    servers = server_children(
        owner=owner, spec=spec, deployed=deployed, hardware=hardware, image=settings.server_of(spec, hardware)
    )
    balancers = balancer_children(
        owner=owner,
        spec=spec,
        deployed=deployed,
        image=settings.balancer_of(spec),
        cluster_domain=settings.cluster_domain,
        secrets=secrets,
    )
    return [*servers, *balancers]


def unwanted_children(desired: Sequence[Body], *, observed: Mapping[tuple[str, str], Facts]) -> list[Facts]:
    """What an earlier plan needed and this one does not: the disruption budget of servers that are now one."""
    wanted = {(body["kind"], body["metadata"]["name"]) for body in desired}
    return [facts for key, facts in observed.items() if key[0] == POD_DISRUPTION_BUDGET.kind and key not in wanted]
