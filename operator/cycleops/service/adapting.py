"""One step of adaptation for one service: what it knew, the newest interval, what serves -> replicas. Pure.

Counted is what has to be computed: of the arrivals, hits are taken off only as far as the evidence of the cache goes,
and the percentile that the rest must keep is the one that the whole percentile implies. So a cache that goes cold is
more to compute in the very next interval, whatever was believed of it.
"""

import math
from dataclasses import dataclass

from cycleops.planner.adaptation import AdaptSettings, Attainment, Decision, Measurement, State, Target, adapt
from cycleops.planner.adaptation.correction import BOUND, KNOWN_TO, Correction
from cycleops.planner.adaptation.hits import HitEvidence
from cycleops.planner.adaptation.slower import planned_slowness
from cycleops.planner.adaptation.watch import Mix, Watch
from cycleops.service.interval import Interval, length_at
from cycleops.service.memory import MAXIMUM_PROFILES, Memory


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a step must know of the service.

    ``served`` by ``profile`` on ``hardware``, ``budget``: names of the plan that serves and of its budget; a change
    begins a new memory of what they bear on. ``planned``: replicas of the plan. ``replicas``: asked for by the
    Deployment; None when it is of another plan, or not ours to change. ``rolling``: pods of two plans run, or none do:
    what they compute says nothing, and caches are cold. ``startup_seconds``: as the pods that run show it.
    """

    served: str
    hardware: str
    profile: str
    budget: str
    planned: int
    replicas: int | None
    rolling: bool
    caches: bool
    target: Target  # of all requests
    startup_seconds: float | None
    settings: AdaptSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    memory: Memory
    decision: Decision


def begun(service: Service) -> Memory:
    """The memory of a service that nothing is known of."""
    state = State(replicas=service.replicas or service.planned)
    return Memory(
        served=service.served,
        hardware=service.hardware,
        profile=service.profile,
        budget=service.budget,
        state=state,
    )


def resumed(memory: Memory, service: Service) -> Memory:
    """A copy from the status, after a restart: how many replicas there are stands on the Deployment."""
    if memory.served != service.served or service.replicas is None:
        return memory
    return memory.model_copy(update={"state": memory.state.model_copy(update={"replicas": service.replicas})})


def current(known: Memory, service: Service, table: Attainment) -> Memory:
    """``known`` without what is not true of the plan that serves now."""
    state = known.state
    if known.budget != service.budget:
        state = state.model_copy(update={"account": State(replicas=1).account})
    if known.served != service.served:
        return _another_plan(known, state, service, table)
    # The shortest that pods of this plan took: when all of them waited for a node or a registry, that was no start.
    starts = [start for start in (known.startup_seconds, service.startup_seconds) if start is not None]
    return known.model_copy(
        update={
            "budget": service.budget,
            "state": state,
            "startup_seconds": min(starts, default=None),
            "hits": HitEvidence() if service.rolling or not service.caches else known.hits,
        }
    )


def measured_anew(known: Memory, *, profiled_at: int, declared: tuple[int, int] | None) -> Memory:
    """When the class that serves was measured again, what had shifted was known, and how slow profiles before were says
    nothing of the new ones.

    ``profiled_at``: the newest measurement of ``known.hardware``, in seconds since the epoch. ``declared``: p50 and p99
    of the input lengths, in tokens.
    """
    if profiled_at <= known.profiled_at:
        return known
    if not known.profiled_at:
        return known.model_copy(update={"profiled_at": profiled_at})
    lengths = known.state.watch.lengths
    found = [length_at(lengths.shifted, share) for share in (0.5, 0.99)] if lengths.found else [None]
    now = {} if None in found else {"tokens": tuple(found), "declared": declared}
    state = known.state.model_copy(update={"watch": known.state.watch.accepted(), "correction": Correction()})
    return known.model_copy(update={"profiled_at": profiled_at, "slowness": {}, "state": state, **now})


def _another_plan(known: Memory, state: State, service: Service, table: Attainment) -> Memory:
    """Traffic stays what it was; slowness and hits were of other pods. As many as the rate needs with cold caches."""
    cold = state.rate.level / (1 - known.hits.counted)
    needed = table.replicas_for(rate_per_second=cold, goal=service.target.percentile / 100)
    begin = State(replicas=service.replicas or max(service.planned, needed or service.planned))
    # Another variant on the same machines is as slow, until something else was measured.
    others = max(known.slowness.values(), default=1.0) if known.hardware == service.hardware else 1.0
    slowness = known.slowness.get(service.profile, others)
    state = state.model_copy(
        update={
            "replicas": begin.replicas,
            "correction": Correction(log_slowness=math.log(min(slowness, BOUND))),
            "contention": state.contention if known.hardware == service.hardware else begin.contention,
            "fewer_since": None,
            "fewer_most": 0,
            "watch": state.watch.model_copy(update={"labels": begin.watch.labels}),
        }
    )
    return Memory(
        served=service.served,
        hardware=service.hardware,
        profile=service.profile,
        budget=service.budget,
        state=state,
        slowness={**known.slowness, service.profile: slowness} if slowness != 1.0 else known.slowness,
        profiled_at=known.profiled_at if known.hardware == service.hardware else 0,
        tokens=known.tokens,
        declared=known.declared,
        asked_at=known.asked_at,
    )


def step(known: Memory, interval: Interval | None, *, now: float, service: Service, table: Attainment) -> Step:
    """``interval``: the newest; one that was taken in before is no news."""
    memory = current(known, service, table)
    if interval is not None and interval.ended_at > (memory.state.measured_at or 0.0):
        memory = _seen(memory, interval, service)
    counted = memory.hits.counted
    state, decision = adapt(
        memory.state,
        measurement(interval, counted=counted, rolling=service.rolling) if interval is not None else None,
        now,
        attainment=table,
        target=_of_computed(service, counted, memory.startup_seconds),
        settings=service.settings,
    )
    memory = memory.model_copy(update={"state": state, "slowness": _slowness(memory, state.correction)})
    return Step(memory=memory, decision=decision)


def _slowness(memory: Memory, correction: Correction) -> dict[str, float]:
    """By profile. A profile that served and holds is worth remembering too: then another's slowness is not its own."""
    if correction.deviation > KNOWN_TO:
        return memory.slowness
    found = {**memory.slowness, memory.profile: planned_slowness(memory.planned_slowness, correction)}
    return dict(list(found.items())[-MAXIMUM_PROFILES:])


def _seen(memory: Memory, interval: Interval, service: Service) -> Memory:
    hits = memory.hits
    if service.caches and not service.rolling:
        found = min(interval.hits, interval.answered)
        hits = hits.seen(requests=interval.answered, hits=found, ended_at=interval.ended_at)
    asked_at = interval.ended_at if interval.arrivals else memory.asked_at
    state = memory.state.model_copy(update={"watch": _comparable(memory.state.watch, interval)})
    return memory.model_copy(update={"hits": hits, "asked_at": asked_at, "state": state})


def _comparable(watch: Watch, interval: Interval) -> Watch:
    """Another server image may count in other buckets: then their reference is made anew."""
    known = {"lengths": watch.lengths, "labels": watch.labels}
    seen = {"lengths": len(interval.lengths), "labels": len(interval.labels)}
    fresh = {
        name: Mix()
        for name, mix in known.items()
        if seen[name] and seen[name] != len(mix.window or mix.reference or (0,) * seen[name])
    }
    return watch.model_copy(update=fresh)


def measurement(interval: Interval, *, counted: float, rolling: bool) -> Measurement:
    """``counted``: the share of hits that may be taken off."""
    hits = min(interval.hits, int(counted * interval.arrivals))
    answered = max(interval.answered - hits, 0)
    return Measurement(
        ended_at=interval.ended_at,
        window_seconds=interval.seconds,
        arrivals=max(interval.arrivals - hits, 0),
        answered=answered,
        late=min(interval.late, answered),
        refused=interval.refused,
        compute_seconds=None if rolling else interval.compute_seconds,
        computed=interval.computed,
        ready_replicas=interval.ready_servers,
        lengths=interval.lengths,
        labels=() if rolling else interval.labels,
    )


def _of_computed(service: Service, counted: float, startup_seconds: float | None) -> Target:
    """The target for what has to be computed: hits are in time, so of the rest a larger share may be late."""
    target = service.target
    late = min((100 - target.percentile) / (1 - counted), 50.0)
    return target.model_copy(
        update={
            "percentile": 100 - late,
            "startup_seconds": max(target.startup_seconds, startup_seconds or 0.0),
            "declared_per_second": target.declared_per_second * (1 - counted),
        }
    )
