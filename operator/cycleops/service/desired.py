"""All children of a CycleService, from what is to be deployed. Pure: no I/O, no clock."""

from collections.abc import Mapping, Sequence

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.controller.kinds import JOB, POD_DISRUPTION_BUDGET, ROLE_LABEL, SECRET
from cycleops.controller.reconcile import Owner
from cycleops.controller.store import Facts
from cycleops.service.balancer import balancer_children
from cycleops.service.cache import cache_children
from cycleops.service.children import CACHE_ROLE, PROFILE_ROLE, Body
from cycleops.service.deployed import Deployed
from cycleops.service.measuring import measuring_children
from cycleops.service.observation import ServiceObservation
from cycleops.service.remeasure import remeasure, variants_on
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


def measuring_desired(o: ServiceObservation, *, settings: ServiceSettings) -> list[Body]:
    """Job and ConfigMap of the measurement that is under way; none when none is."""
    remeasuring = remeasure(o)
    name, run, model = remeasuring.measures, remeasuring.run, o.evidence.model
    profiles = variants_on(o.evidence.profiles, name)
    if not name or run is None or model is None or not profiles or name not in o.classes:
        return []
    return measuring_children(
        owner=o.owner,
        spec=o.spec,
        run=run,
        model=model,
        profiles=profiles,
        hardware_class=name,
        hardware=o.classes[name],
        image=settings.server_of(o.spec, o.classes[name]),
        report_url=settings.report_url,
        authority=o.authority,
    )


def unwanted_children(desired: Sequence[Body], *, observed: Mapping[tuple[str, str], Facts]) -> list[Facts]:
    """What was needed before and is not now: the disruption budget of servers that are one, a cache not managed now,
    measurements that are done.

    The cache's Secret stays for the next time: the operator has no right to delete Secrets. A measuring Job that failed
    stays with its pods' logs until the next one begins.
    """
    wanted = {(body["kind"], body["metadata"]["name"]) for body in desired}
    measures = any(body["metadata"]["labels"].get(ROLE_LABEL) == PROFILE_ROLE for body in desired)
    has_cache = any(body["metadata"]["labels"].get(ROLE_LABEL) == CACHE_ROLE for body in desired)

    def is_unwanted(key: tuple[str, str], facts: Facts) -> bool:
        of_cache = facts.body["metadata"].get("labels", {}).get(ROLE_LABEL) == CACHE_ROLE
        if of_cache:
            return not has_cache and key[0] != SECRET.kind
        if facts.body["metadata"].get("labels", {}).get(ROLE_LABEL) == PROFILE_ROLE:
            return key not in wanted and (measures or not _failed(facts))
        return key[0] == POD_DISRUPTION_BUDGET.kind and key not in wanted

    return [facts for key, facts in observed.items() if is_unwanted(key, facts)]


def _failed(facts: Facts) -> bool:
    conditions = facts.body.get("status", {}).get("conditions", [])
    return facts.kind == JOB.kind and any((c["type"], c["status"]) == ("Failed", "True") for c in conditions)
