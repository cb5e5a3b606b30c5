"""All that a pass over a CycleService decides from: frozen, with the clock in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cycleops.api.cycleservice import CycleServiceSpec, PlanningMode
from cycleops.api.cycleservice_status import CycleServiceStatus, FrontierPoint, NearestFeasible, Plan, Rejected
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.reasons import Reason
from cycleops.controller.inbox import Delivery
from cycleops.controller.reconcile import Owner
from cycleops.controller.store import Facts
from cycleops.planner.adaptation import Decision as AdaptDecision
from cycleops.service.deployed import Deployed
from cycleops.service.evidence import Evidence
from cycleops.service.histograms import Measured
from cycleops.service.memory import Memory
from cycleops.service.rollout import Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the planner said. ``plan`` is None when nothing meets the budget; a pinned plan is always there."""

    feasible: bool
    reason: Reason
    message: str
    plan: Plan | None = None
    requests_per_second: float = 0.0  # that was planned for
    batch_invariant: bool = False  # of the plan's variant: only then are answers cached
    tails_ms: Mapping[str, float] = field(default_factory=dict)  # predicted p99 by term
    rejected: tuple[Rejected, ...] = ()
    nearest: tuple[NearestFeasible, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    baseline_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What pods serve, or soon will, as far as adaptation must know it. ``profile``: the name of its measurement."""

    digest: str
    variant: str
    hardware: str
    batch_size: int
    delay_milliseconds: float
    target_milliseconds: float
    profile: str

    def is_of(self, deployed: Deployed | None) -> bool:
        """Whether the Deployment asks for this."""
        return deployed is not None and (
            self.digest,
            self.variant,
            self.hardware,
            self.batch_size,
            self.delay_milliseconds,
        ) == (
            deployed.model_digest,
            deployed.variant,
            deployed.hardware,
            deployed.batch_size,
            deployed.delay_milliseconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """What adaptation says. ``fewest``, ``most``: between what it may choose."""

    replicas: int
    fewest: int
    most: int
    decision: AdaptDecision
    memory: Memory


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was read from the pods. ``measured`` is None until there was traffic."""

    measured: Measured | None = None
    stale: str = ""  # why no fresh numbers can be had; empty when they can


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceObservation:
    owner: Owner
    children: Mapping[tuple[str, str], Facts]
    now: datetime
    spec: CycleServiceSpec
    status: CycleServiceStatus
    evidence: Evidence
    outcome: Outcome | None  # None while there is nothing to plan from
    classes: Mapping[str, HardwareClassSpec]
    deployed: Deployed | None
    pods: tuple[Pod, ...]  # listed only while some are not ready, or to be measured
    missing_claim: str  # PersistentVolumeClaim of the model that is not there; empty when it is, or when pods run
    measurement: Measurement
    adapted: Adapted | None = None  # None while nothing can be said: nothing deployed, or no profile of it
    secrets: Mapping[str, str] = field(default_factory=dict)  # of TLS and API keys: version by name, empty when missing
    deliveries: tuple[Delivery, ...] = ()  # reports of measuring pods
    authority: str = ""  # CA of the report server, PEM
    new_cache_password: str | None = None  # for a managed shared cache; None when its Secret is there

    @property
    def is_adapted(self) -> bool:
        """Whether the number of replicas is adaptation's."""
        return self.adapted is not None and self.spec.planning.mode is PlanningMode.AUTOMATIC
