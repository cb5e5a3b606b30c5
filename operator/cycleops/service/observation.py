"""All that a pass over a CycleService decides from: frozen, with the clock in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.cycleservice_status import CycleServiceStatus, FrontierPoint, NearestFeasible, Plan, Rejected
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.reasons import Reason
from cycleops.controller.reconcile import Owner
from cycleops.controller.store import Facts
from cycleops.service.deployed import Deployed
from cycleops.service.evidence import Evidence
from cycleops.service.histograms import Measured
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
    secrets: Mapping[str, str] = field(default_factory=dict)  # of TLS and API keys: version by name, empty when missing
    new_cache_password: str | None = None  # for a managed shared cache; None when its Secret is there
