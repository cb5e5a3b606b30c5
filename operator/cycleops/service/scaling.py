"""Adaptation of every service: keeps what it learnt, asks for a step in each pass. No I/O; the clock is handed in."""

from collections.abc import Mapping

from cycleops.api.cycleservice import CycleServiceSpec, PlanningMode
from cycleops.api.cycleservice_status import CycleServiceStatus
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.traffic import TrafficBasis
from cycleops.planner.adaptation import AdaptSettings, Attainment, Target
from cycleops.service.adapting import Service, begun, measured_anew, resumed, step
from cycleops.service.corrections import declared_tokens
from cycleops.service.deployed import Deployed
from cycleops.service.evidence import Evidence
from cycleops.service.interval import Interval
from cycleops.service.memory import Memory, load
from cycleops.service.observation import Adapted, Outcome, Served
from cycleops.service.rollout import Rollout


def served_of(
    *, spec: CycleServiceSpec, evidence: Evidence, outcome: Outcome | None, deployed: Deployed | None
) -> Served | None:
    """The plan where it will be deployed, else what is; None when that has no profile."""
    model, plan = evidence.model, outcome.plan if outcome is not None else None
    if plan is not None and model is not None and spec.planning.mode is not PlanningMode.RECOMMEND:
        what = (model.digest, plan.variant, plan.hardware, plan.batch_size, plan.delay_milliseconds)
        target = float(spec.budget.latency.milliseconds)
    elif deployed is not None:
        what = (deployed.model_digest, *_choice(deployed))
        target = deployed.target_milliseconds
    else:
        return None
    digest, variant, hardware, batch_size, delay = what
    of = (p for p in evidence.profiles if (p.spec.variant, p.spec.hardware_class) == (variant, hardware))
    profile = next((p.metadata.name for p in of if p.spec.model_digest == digest), None)
    if profile is None:
        return None
    return Served(
        digest=digest,
        variant=variant,
        hardware=hardware,
        batch_size=batch_size,
        delay_milliseconds=delay,
        target_milliseconds=target,
        profile=profile,
    )


def _choice(deployed: Deployed) -> tuple[str, str, int, float]:
    return deployed.variant, deployed.hardware, deployed.batch_size, deployed.delay_milliseconds


def name_of(served: Served) -> str:
    """The same for two passes exactly when a new plan does not begin between them."""
    choice = f"{served.variant}/{served.hardware}/{served.batch_size}/{served.delay_milliseconds:g}"
    return f"{served.digest[:19]}/{choice}/{served.profile}"


class Scaling:
    def __init__(self) -> None:
        self._memories: dict[str, Memory] = {}
        self._resumed: set[str] = set()  # from status, not yet compared with the Deployment

    def memory(
        self, uid: str, *, spec: CycleServiceSpec, status: CycleServiceStatus, evidence: Evidence
    ) -> Memory | None:
        """What is known of the service ``uid``; after a restart the copy in its status. Without what is not true any
        more since its class was measured again.
        """
        if uid not in self._memories and status.adaptation is not None:
            found = load(status.adaptation.memory)
            if found is not None:
                self._memories[uid] = found
                self._resumed.add(uid)
        known = self._memories.get(uid)
        if known is None:
            return None
        of_class = [p.spec.measured_at for p in evidence.profiles if p.spec.hardware_class == known.hardware]
        if of_class:
            declared = declared_tokens(spec.traffic)
            # Whole seconds: the copy in status keeps no more of a time.
            known = measured_anew(known, profiled_at=int(max(of_class).timestamp()), declared=declared)
            self._memories[uid] = known
        return known

    def keep_only(self, uids: set[str]) -> None:
        """Forget services that are gone."""
        self._memories = {uid: memory for uid, memory in self._memories.items() if uid in uids}
        self._resumed &= uids

    def adapted(
        self, uid: str, *, interval: Interval | None, now: float, service: Service, table: Attainment
    ) -> Adapted:
        """One step. Without news it says the same again, but for what time alone changes."""
        known = self._memories.get(uid) or begun(service)
        if uid in self._resumed:
            known = resumed(known, service)
            self._resumed.discard(uid)
        taken = step(known, interval, now=now, service=service, table=table)
        self._memories[uid] = taken.memory
        return Adapted(
            replicas=taken.decision.replicas,
            fewest=service.target.minimum_replicas,
            most=service.target.maximum_replicas,
            decision=taken.decision,
            memory=taken.memory,
        )


def service_of(
    *,
    spec: CycleServiceSpec,
    status: CycleServiceStatus,
    evidence: Evidence,
    outcome: Outcome | None,
    classes: Mapping[str, HardwareClassSpec],
    deployed: Deployed | None,
    rollout: Rollout,
    served: Served,
    table: Attainment,
    counted: float,
    startup_seconds: float | None,
) -> Service:
    """What a step must know. ``counted``: share of hits that capacity counts on."""
    planned = _planned(spec, status, outcome, deployed, served)
    deploys = spec.planning.mode is not PlanningMode.RECOMMEND
    there = served.is_of(deployed)
    latency = spec.budget.latency
    percentile = float(latency.percentile)
    profile = next(p for p in evidence.profiles if p.metadata.name == served.profile)
    most = min(spec.replicas.maximum, classes[served.hardware].maximum_replicas or spec.replicas.maximum)
    declared = float(spec.traffic.requests_per_second)
    rate = outcome.requests_per_second if outcome is not None and outcome.plan is not None else declared
    fewest, most = _bounds(
        spec, planned=planned, most=most, above=rate > declared * 1.0001,
        declared=table.replicas_for(rate_per_second=declared * (1 - counted), goal=percentile / 100),
    )  # fmt: skip
    return Service(
        served=name_of(served),
        hardware=served.hardware,
        profile=served.profile,
        budget=f"p{percentile:g} {served.target_milliseconds:g} ms",
        planned=planned,
        replicas=deployed.replicas if deployed is not None and there and deploys else None,
        rolling=not there or rollout.updated < rollout.there or rollout.ready == 0,
        caches=spec.cache is not None and spec.cache.l1 is not None and profile.spec.batch_invariant,
        target=Target(
            percentile=percentile,
            minimum_replicas=fewest,
            maximum_replicas=most,
            startup_seconds=profile.spec.startup_seconds,
            declared_per_second=declared,
        ),
        startup_seconds=startup_seconds,
        settings=AdaptSettings(hold_seconds=float(spec.replicas.hold_seconds)),
    )


def _planned(
    spec: CycleServiceSpec,
    status: CycleServiceStatus,
    outcome: Outcome | None,
    deployed: Deployed | None,
    served: Served,
) -> int:
    """Replicas of the plan that serves: of the one that was just made, or that the status still shows."""
    for plan in (outcome.plan if outcome is not None else None, status.plan):
        if plan is not None and (plan.variant, plan.hardware, plan.batch_size, plan.delay_milliseconds) == (
            served.variant, served.hardware, served.batch_size, served.delay_milliseconds
        ):  # fmt: skip
            return max(plan.replicas, 1)
    return deployed.replicas if deployed is not None else spec.replicas.minimum


def _bounds(spec: CycleServiceSpec, *, planned: int, most: int, above: bool, declared: int | None) -> tuple[int, int]:
    """Fewest and most replicas. ``above``: the plan is for more than was declared, and that needs ``declared``."""
    if spec.planning.mode is PlanningMode.PINNED:
        return planned, planned
    basis = spec.traffic.basis
    fewest = planned
    if basis is TrafficBasis.MEASURED:
        fewest = spec.replicas.minimum
    elif basis is TrafficBasis.MAXIMUM and above and declared is not None:
        fewest = max(min(planned, declared), spec.replicas.minimum)
    return min(fewest, most), most
