"""Objects that a pass over a CycleService looks at, from what the watches have seen."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from cycleops.api.base import Kind as ApiKind
from cycleops.api.cyclejob import CycleJob
from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice import CycleService
from cycleops.api.hardwareclass import HardwareClass, HardwareClassSpec
from cycleops.controller.kinds import CYCLE_JOB, CYCLE_PROFILE, HARDWARE_CLASS, Kind
from cycleops.controller.store import Facts, Store
from cycleops.service.evidence import Sources
from cycleops.service.remeasure import is_withheld
from cycleops.service.settings import ServiceSettings

ModelT = TypeVar("ModelT", bound=ApiKind)


def typed(model: type[ModelT], kind: Kind, facts: Facts) -> ModelT:
    body: dict[str, Any] = {**facts.body, "apiVersion": kind.api_version, "kind": kind.kind}
    return model.model_validate(body)


def classes_of(store: Store, names: Iterable[str]) -> dict[str, HardwareClassSpec]:
    """Those of ``names`` that there are."""
    found = {}
    for name in names:
        facts = store.get(HARDWARE_CLASS, name=name)
        if facts is not None:
            found[name] = typed(HardwareClass, HARDWARE_CLASS, facts).spec
    return found


def sources_of(
    store: Store, *, service: CycleService, classes: Mapping[str, HardwareClassSpec], settings: ServiceSettings
) -> Sources:
    """What the evidence of the service may come from."""
    spec, job = service.spec, None
    if spec.model.cycle_job is not None:
        facts = store.get(CYCLE_JOB, namespace=service.metadata.namespace, name=spec.model.cycle_job)
        job = typed(CycleJob, CYCLE_JOB, facts) if facts is not None else None
    return Sources(
        spec=spec,
        pinned=service.status.model,
        job=job,
        profiles=tuple(_profiles(store, service, job)),
        classes=classes,
        images={name: settings.server_of(spec, hardware) for name, hardware in classes.items()},
    )


def _profiles(store: Store, service: CycleService, job: CycleJob | None) -> Iterator[CycleProfile]:
    """Profiles of the digests in question; parsing every profile of a namespace would be slow. Those of a run that
    measures anew come all at once, when it is done.
    """
    models = (service.status.model, job.status.model if job is not None else None)
    digests = {model.digest for model in models if model is not None} | {service.spec.model.digest or ""}
    for facts in store.all(CYCLE_PROFILE):
        if facts.namespace != service.metadata.namespace or not any(d and d.encode() in facts.raw for d in digests):
            continue
        found = typed(CycleProfile, CYCLE_PROFILE, facts)
        if not is_withheld(found, service=service):
            yield found
