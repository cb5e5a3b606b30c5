"""``cycleops plan``: the operator's own question to the planner, from files."""

import json
from pathlib import Path

from rich.console import Console

from cycleops.api.conditions import ServiceCondition
from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice import CycleService, CycleServiceSpec
from cycleops.api.cycleservice_status import ServedModel
from cycleops.api.hardwareclass import HardwareClass, HardwareClassSpec
from cycleops.api.reasons import Reason
from cycleops.cli.files import BadInputError, newest_profiles, of_kind
from cycleops.cli.table import show
from cycleops.cli.what_if import changed
from cycleops.planner import PlanResult, to_dict
from cycleops.service.evidence import Evidence
from cycleops.service.finding import Finding
from cycleops.service.question import ask

__all__ = ["BadInputError", "evidence_of", "read", "run"]


def run(
    *,
    service_file: Path,
    profiles: Path,
    hardware: Path | None,
    what_if: str,
    json_file: Path | None,
    plot: Path | None,
    mixes: bool,
) -> bool:
    """True when there is a plan. Raises BadInputError."""
    service, spec, classes, found = read(service_file, profiles, hardware, what_if)
    rate = float(spec.traffic.requests_per_second)
    try:
        result = ask(spec=spec, evidence=evidence_of(found), classes=classes, requests_per_second=rate, mixes=mixes)
    except ValueError as error:  # what the API server would have refused
        raise BadInputError(f"the spec can't be planned: {error}") from error
    console = Console()
    show(result, spec=spec, name=service.metadata.name, console=console)
    if json_file is not None:
        content = {"service": service.metadata.name, "whatIf": what_if or None, **to_dict(result)}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(content, indent=2) + "\n")
    if plot is not None:
        _plot(result, spec, plot, console)
    return result.feasible


def read(
    service_file: Path, profiles: Path, hardware: Path | None, what_if: str
) -> tuple[CycleService, CycleServiceSpec, dict[str, HardwareClassSpec], tuple[CycleProfile, ...]]:
    """The service, its spec with the changes, its classes, and its model's newest profiles. Raises BadInputError."""
    service = _only_service(service_file)
    spec = changed(service.spec, what_if)
    classes = _classes(spec, [service_file, profiles, *([hardware] if hardware else [])])
    found = newest_profiles(of_kind(CycleProfile, profiles), hardware=list(classes), digest=spec.model.digest)
    return service, spec, classes, found


def _plot(result: PlanResult, spec: CycleServiceSpec, path: Path, console: Console) -> None:
    from cycleops.cli.plots import pareto

    if result.frontier:
        pareto(result, latency_milliseconds=float(spec.budget.latency.milliseconds), path=path)
    else:
        console.print(f"{path} was not written: no candidate was fit to be simulated")


def _only_service(file: Path) -> CycleService:
    services = of_kind(CycleService, file)
    if len(services) != 1:
        raise BadInputError(f"{file} has {len(services)} CycleServices; exactly one is needed")
    return services[0]


def _classes(spec: CycleServiceSpec, places: list[Path]) -> dict[str, HardwareClassSpec]:
    known = {one.metadata.name: one.spec for one in of_kind(HardwareClass, *places)}
    missing = [name for name in spec.hardware if name not in known]
    if missing:
        raise BadInputError(f"no HardwareClass {', '.join(missing)} in the files: give one with --hardware")
    return {name: known[name] for name in spec.hardware}


def evidence_of(profiles: tuple[CycleProfile, ...]) -> Evidence:
    """What the operator would have found in the cluster."""
    digest = profiles[0].spec.model_digest
    finding = Finding(ServiceCondition.MODEL_READY, True, Reason.MODEL_PINNED, "from files")
    return Evidence(finding, ServedModel(uri="", digest=digest), profiles)
