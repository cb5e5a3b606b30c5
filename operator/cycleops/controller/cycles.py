"""The kinds that the operator reconciles, wired to what they need."""

from typing import Any

from cycleops.controller.certificate import Certificate
from cycleops.controller.inbox import Inbox
from cycleops.controller.kinds import CYCLE_JOB, CYCLE_SERVICE
from cycleops.controller.kube import Kube
from cycleops.controller.reconcile import Cycle
from cycleops.controller.settings import Settings
from cycleops.controller.store import Store
from cycleops.job.cycle import JobCycle
from cycleops.service.cycle import ServiceCycle
from cycleops.service.settings import ServiceSettings


def build_cycles(
    *, kube: Kube, store: Store, inbox: Inbox, settings: Settings, certificate: Certificate
) -> dict[str, Cycle[Any]]:
    """By the kind's name."""
    job = JobCycle(
        kube=kube,
        store=store,
        inbox=inbox,
        authority=lambda: certificate.authority,
        report_url=settings.report_url,
        trainer_image=settings.trainer_image,
        server_image=settings.server_image,
    )
    images = ServiceSettings(
        server_image=settings.server_image,
        balancer_image=settings.balancer_image,
        cache_image=settings.cache_image,
        report_url=settings.report_url,
    )
    service = ServiceCycle(
        kube=kube, store=store, inbox=inbox, settings=images, authority=lambda: certificate.authority
    )
    return {CYCLE_JOB.kind: job, CYCLE_SERVICE.kind: service}
