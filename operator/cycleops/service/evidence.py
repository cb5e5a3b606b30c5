"""Which model is to be served, and what was measured of it. Pure: a chain of questions, each a few lines.

The first question that can't be answered well becomes the condition ModelReady=False, and says what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cycleops.api.conditions import ConditionStatus, JobCondition, ServiceCondition, find_condition
from cycleops.api.cyclejob import CycleJob
from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.cycleservice_status import ServedModel
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.hashes import hardware_class_hash
from cycleops.api.reasons import Reason
from cycleops.api.uri import BadUriError, parse_uri
from cycleops.service.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that evidence may come from, as it is now."""

    spec: CycleServiceSpec
    pinned: ServedModel | None  # in status: what an earlier pass found
    job: CycleJob | None  # the one that the spec names
    profiles: Sequence[CycleProfile]  # of the namespace
    classes: Mapping[str, HardwareClassSpec]
    images: Mapping[str, str]  # server image by class


@dataclass(frozen=True, slots=True)
class Evidence:
    """``profiles`` is empty unless ``ready``; one per variant and class, sorted by name."""

    finding: Finding
    model: ServedModel | None = None
    profiles: tuple[CycleProfile, ...] = ()

    @property
    def ready(self) -> bool:
        return self.finding.status is True


def find_evidence(sources: Sources) -> Evidence:
    model = _model(sources)
    if isinstance(model, Finding):
        return Evidence(model)
    try:
        parse_uri(model.uri)
    except BadUriError as error:
        return Evidence(_no(Reason.BAD_URI, f"spec.model.uri: {error}"))
    of_model = [p for p in sources.profiles if p.spec.model_digest == model.digest]
    problem = _measured(sources, of_model) or _classes(sources) or _current(sources, of_model)
    if problem is not None:
        return Evidence(problem, model)
    chosen = _chosen(sources, of_model)
    variants = sorted({p.spec.variant for p in chosen})
    classes = sorted({p.spec.hardware_class for p in chosen})
    message = f"{model.digest[:19]}: {', '.join(variants)} measured on {', '.join(classes)}"
    return Evidence(Finding(ServiceCondition.MODEL_READY, True, Reason.MODEL_PINNED, message), model, chosen)


def _no(reason: Reason, message: str) -> Finding:
    return Finding(ServiceCondition.MODEL_READY, False, reason, message)


def _model(sources: Sources) -> ServedModel | Finding:
    """The model that the spec means."""
    reference = sources.spec.model
    if reference.cycle_job is None:
        assert reference.uri is not None and reference.digest is not None  # the CRD's rule
        return ServedModel(uri=reference.uri, digest=reference.digest)
    if sources.job is None:
        return _outlived(sources) or _no(
            Reason.JOB_NOT_FOUND,
            f"CycleJob {reference.cycle_job} does not exist in this namespace: create it, or name another one in "
            "spec.model.cycleJob, or give spec.model.uri and digest",
        )
    return _of_job(sources.job)


def _outlived(sources: Sources) -> ServedModel | None:
    """The pinned model, when its profiles say that the job that is gone made it."""
    pinned = sources.pinned
    if pinned is None:
        return None
    by_job = (p for p in sources.profiles if p.spec.job == sources.spec.model.cycle_job)
    return pinned if any(p.spec.model_digest == pinned.digest for p in by_job) else None


def _of_job(job: CycleJob) -> ServedModel | Finding:
    name = job.metadata.name
    succeeded = find_condition(job.status.conditions, JobCondition.SUCCEEDED)
    model = job.status.model
    if succeeded is None or succeeded.status is ConditionStatus.UNKNOWN:
        stage = "has not started" if succeeded is None else f"is at {succeeded.reason}: {succeeded.message}"
        return _no(Reason.JOB_NOT_FINISHED, f"waits for CycleJob {name}, which {stage}")
    if succeeded.status is ConditionStatus.FALSE:
        return _no(
            Reason.JOB_FAILED,
            f"CycleJob {name} failed with {succeeded.reason}: {succeeded.message}. Mend it and create it anew, or "
            "name another one in spec.model.cycleJob",
        )
    if model is None:
        return _no(Reason.JOB_FAILED, f"CycleJob {name} succeeded without a model in its status: create it anew")
    return ServedModel(uri=model.uri, digest=model.digest)


def _measured(sources: Sources, of_model: Sequence[CycleProfile]) -> Finding | None:
    wanted = sources.spec.hardware
    if any(p.spec.hardware_class in wanted for p in of_model):
        return None
    elsewhere = sorted({p.spec.hardware_class for p in of_model})
    found = f"only on {', '.join(elsewhere)}" if elsewhere else "nowhere"
    return _no(
        Reason.NO_PROFILES,
        f"the model was measured {found}, and spec.hardware is {', '.join(wanted)}: add these classes to the "
        "CycleJob's spec.profile.hardware and run it, or change spec.hardware",
    )


def _classes(sources: Sources) -> Finding | None:
    if any(name in sources.classes for name in sources.spec.hardware):
        return None
    missing = ", ".join(sources.spec.hardware)
    return _no(Reason.HARDWARE_CLASS_NOT_FOUND, f"no HardwareClass {missing}: create it, or change spec.hardware")


def _current(sources: Sources, of_model: Sequence[CycleProfile]) -> Finding | None:
    if any(_holds(sources, p) for p in of_model):
        return None
    return _no(
        Reason.PROFILES_OUTDATED,
        f"HardwareClass {', '.join(sources.spec.hardware)} changed since the model was measured on it: run a CycleJob "
        "that measures it again, or undo the change",
    )


def _holds(sources: Sources, profile: CycleProfile) -> bool:
    """Whether the machine that was measured is the one that would serve."""
    name = profile.spec.hardware_class
    known = sources.classes.get(name)
    wanted = name in sources.spec.hardware
    return wanted and known is not None and profile.spec.hardware_class_hash == hardware_class_hash(known)


def _chosen(sources: Sources, of_model: Sequence[CycleProfile]) -> tuple[CycleProfile, ...]:
    """Per variant and class, the newest; before it, one measured with the image that will serve."""

    def rank(profile: CycleProfile) -> tuple[bool, float, str]:
        spec = profile.spec
        same_image = spec.image == sources.images.get(spec.hardware_class)
        return same_image, spec.measured_at.timestamp(), profile.metadata.name

    best: dict[tuple[str, str], CycleProfile] = {}
    for profile in sorted((p for p in of_model if _holds(sources, p)), key=rank):
        best[profile.spec.variant, profile.spec.hardware_class] = profile
    return tuple(sorted(best.values(), key=lambda p: p.metadata.name))
