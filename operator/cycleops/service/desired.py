"""All children of a CycleService, from what is to be deployed. Pure: no I/O, no clock."""

from collections.abc import Mapping, Sequence

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.controller.kinds import POD_DISRUPTION_BUDGET, ROLE_LABEL, SECRET
from cycleops.controller.reconcile import Owner
from cycleops.controller.store import Facts
from cycleops.service.balancer import balancer_children
from cycleops.service.cache import cache_children
from cycleops.service.children import CACHE_ROLE, Body
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
    new_cache_password: str | None = None,
) -> list[Body]:
    """Servers, balancers and the managed cache. ``secrets``: versions of those that the balancers mount, by name.

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
    cache = cache_children(owner=owner, spec=spec, image=settings.cache_of(spec), new_password=new_cache_password)
    return [*servers, *balancers, *cache]


def unwanted_children(desired: Sequence[Body], *, observed: Mapping[tuple[str, str], Facts]) -> list[Facts]:
    """What was needed before and is not now: the disruption budget of servers that are one, a cache not managed now.

    Its Secret stays for the next time: the operator has no right to delete Secrets.
    """
    wanted = {(body["kind"], body["metadata"]["name"]) for body in desired}
    has_cache = any(body["metadata"]["labels"].get(ROLE_LABEL) == CACHE_ROLE for body in desired)

    def is_unwanted(key: tuple[str, str], facts: Facts) -> bool:
        of_cache = facts.body["metadata"].get("labels", {}).get(ROLE_LABEL) == CACHE_ROLE
        if of_cache:
            return not has_cache and key[0] != SECRET.kind
        return key[0] == POD_DISRUPTION_BUDGET.kind and key not in wanted

    return [facts for key, facts in observed.items() if is_unwanted(key, facts)]
