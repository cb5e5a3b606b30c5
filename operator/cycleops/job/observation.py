"""What a pass over a CycleJob knows: everything the policies may ask, frozen."""

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cycleops.api.cyclejob import CycleJob, CycleJobSpec
from cycleops.api.cyclejob_status import CycleJobStatus
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.uri import parse_uri
from cycleops.controller.inbox import Delivery
from cycleops.controller.kinds import JOB
from cycleops.controller.reconcile import Owner
from cycleops.controller.store import Facts
from cycleops.job import names


@dataclass(frozen=True, slots=True)
class Environment:
    """What the operator's own configuration adds: images of the chart, where pods report, whom they trust."""

    trainer_image: str
    server_image: str
    report_url: str
    authority: str


@dataclass(frozen=True, slots=True)
class SshKeys:
    """OpenSSH texts of the key pair with which one job's launcher reaches its workers."""

    private: str
    public: str


@dataclass(frozen=True, slots=True)
class ChildJob:
    """State of a batch Job, from its status."""

    suspended: bool
    active: int
    ready: int
    failed: int
    complete: bool
    failed_reason: str
    failed_message: str

    @property
    def ended(self) -> bool:
        return self.complete or bool(self.failed_reason)


def child_job(facts: Facts) -> ChildJob:
    body = facts.body
    status = body["status"]
    conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    failed = conditions.get("Failed", {})
    return ChildJob(
        suspended=bool(body["spec"].get("suspend", False)),
        active=status.get("active", 0),
        ready=status.get("ready", 0),
        failed=status.get("failed", 0),
        complete="Complete" in conditions,
        failed_reason=failed.get("reason", "Failed") if failed else "",
        failed_message=failed.get("message", ""),
    )


@dataclass(frozen=True)
class Observation:
    """``claims`` has each claim of the spec with its access modes, None for one that does not exist.

    It is empty once the job was admitted. ``heard``: when a pod last reported, as far as this operator knows.
    """

    owner: Owner
    children: Mapping[tuple[str, str], Facts]
    job: CycleJob
    evidence: CycleJobStatus
    deliveries: tuple[Delivery, ...]
    classes: Mapping[str, HardwareClassSpec]
    claims: Mapping[str, tuple[str, ...] | None]
    pod_notes: tuple[str, ...]
    new_keys: SshKeys | None
    environment: Environment
    heard: dt.datetime
    now: dt.datetime

    @property
    def spec(self) -> CycleJobSpec:
        return self.job.spec

    @property
    def name(self) -> str:
        return self.owner.name

    @cached_property
    def jobs(self) -> Mapping[str, ChildJob]:
        """Child Jobs that are there and not being deleted, by name."""
        return {
            name: child_job(facts)
            for (kind, name), facts in self.children.items()
            if kind == JOB.kind and not facts.deleting
        }

    @property
    def launcher(self) -> ChildJob | None:
        return self.jobs.get(names.launcher_job(self.name))

    @property
    def workers(self) -> ChildJob | None:
        return self.jobs.get(names.worker_job(self.name))

    @property
    def training_job(self) -> ChildJob | None:
        """The Job that ends as the training ends: the launcher's; the workers' where nobody launches them."""
        return self.launcher if self.spec.workers.has_launcher else self.workers

    @property
    def failures(self) -> int:
        """Attempts of the training that failed: of this Job and of those that were deleted because nothing moved."""
        failed = self.training_job.failed if self.training_job is not None else 0
        if not self.spec.workers.has_launcher:  # one rank that ends takes all with it, so each worker's pod fails
            failed = math.ceil(failed / self.spec.workers.replicas)
        return self.evidence.earlier_failures + failed

    @property
    def profile_classes(self) -> list[str]:
        return self.spec.profile.hardware or [self.spec.workers.hardware]

    @property
    def slots_per_host(self) -> int:
        """Ranks of one worker: one per accelerator, else one."""
        accelerator = self.classes[self.spec.workers.hardware].accelerator
        return accelerator.count if accelerator is not None else 1

    def claims_of_spec(self) -> dict[str, str]:
        """Claims that the spec's URIs name, each with the first field that does. Raises BadUriError."""
        return claims_of(self.spec)


def uris_of(spec: CycleJobSpec) -> dict[str, str]:
    """Fields of the spec that hold a URI."""
    return {
        "spec.model.uri": spec.model.uri,
        "spec.data.train": spec.data.train,
        "spec.data.evaluation": spec.data.evaluation,
        "spec.output.uri": spec.output.uri,
    }


def claims_of(spec: CycleJobSpec) -> dict[str, str]:
    """Claim -> field. Raises BadUriError."""
    result: dict[str, str] = {}
    for field, text in uris_of(spec).items():
        result.setdefault(parse_uri(text).claim, field)
    return result
