"""The planner's question, from the API's objects. Pure; takes seconds, so call it in a thread."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cycleops.api.budget import Budget
from cycleops.api.cores import server_threads_of, server_workers_of
from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice import CycleServiceSpec, PlanningMode
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.hashes import hardware_class_hash
from cycleops.api.traffic import InputTokens
from cycleops.planner import model
from cycleops.planner.adaptation import Attainment, tabulate
from cycleops.planner.adaptation.slower import slower
from cycleops.planner.planning import Planner
from cycleops.planner.result import PlanResult
from cycleops.planner.service_time import IncompleteProfileError, service_times
from cycleops.service.corrections import AS_PROFILED, Corrections
from cycleops.service.evidence import Evidence
from cycleops.service.observation import Served
from cycleops.service.quantities import cpu_limit_of


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the planner takes."""

    workload: model.Workload
    budget: model.Budget
    candidates: tuple[model.Candidate, ...]
    limits: model.Limits
    algorithm: model.Algorithm
    pinned: model.Pinned | None


def ask(
    *,
    spec: CycleServiceSpec,
    evidence: Evidence,
    classes: Mapping[str, HardwareClassSpec],
    requests_per_second: float,
    corrections: Corrections = AS_PROFILED,
    planner: Planner | None = None,
    mixes: bool = False,
) -> PlanResult:
    """``planner``: one that has planned for this service before is quicker. ``mixes``: of classes, which the operator
    does not deploy.
    """
    asked = question(
        spec=spec,
        evidence=evidence,
        classes=classes,
        requests_per_second=requests_per_second,
        corrections=corrections,
        mixes=mixes,
    )
    result = (planner or Planner()).plan(
        workload=asked.workload,
        budget=asked.budget,
        candidates=asked.candidates,
        limits=asked.limits,
        algorithm=asked.algorithm,
        pinned=asked.pinned,
    )
    return replace(result, sentences=(*corrections.sentences, *result.sentences))


def question(
    *,
    spec: CycleServiceSpec,
    evidence: Evidence,
    classes: Mapping[str, HardwareClassSpec],
    requests_per_second: float,
    corrections: Corrections = AS_PROFILED,
    mixes: bool = False,
) -> Question:
    workload = replace(
        _workload(spec, evidence, requests_per_second, corrections.tokens),
        cache_hit_ratio=corrections.hit_ratio,
        cache_hit_ratio_lower=corrections.hit_ratio_lower,
    )
    return Question(
        workload=workload,
        budget=_budget(spec.budget),
        candidates=tuple(_candidates(evidence, classes, corrections)),
        limits=_limits(spec, mixes=mixes),
        algorithm=model.Algorithm(spec.load_balancing.algorithm.value),
        pinned=_pinned(spec),
    )


def table_of(
    *,
    spec: CycleServiceSpec,
    evidence: Evidence,
    classes: Mapping[str, HardwareClassSpec],
    served: Served,
    tokens: tuple[int, int] | None = None,
) -> Attainment | None:
    """What every number of replicas of ``served`` does, as profiled and without a cache; None without its profile.

    ``tokens``: p50 and p99 of the input lengths, where they are not the declared ones.
    """
    profile = next((p for p in evidence.profiles if p.metadata.name == served.profile), None)
    hardware = classes.get(served.hardware)
    if profile is None or hardware is None:
        return None
    try:
        times = service_times(profile.spec)
    except IncompleteProfileError:
        return None  # a pinned variant may serve without rows to plan from
    return tabulate(
        times=times,
        hardware=_option(profile, hardware),
        workload=_workload(spec, evidence, 1.0, tokens),
        budget_milliseconds=served.target_milliseconds,
        batch_size=served.batch_size,
        delay_milliseconds=served.delay_milliseconds,
        maximum_replicas=min(spec.replicas.maximum, hardware.maximum_replicas or spec.replicas.maximum),
        workers=profile.spec.workers,
        algorithm=model.Algorithm(spec.load_balancing.algorithm.value),
    )


def _limits(spec: CycleServiceSpec, *, mixes: bool) -> model.Limits:
    headroom = spec.headroom
    return model.Limits(
        minimum_replicas=spec.replicas.minimum,
        maximum_replicas=spec.replicas.maximum,
        mixes=mixes,
        headroom=model.Headroom(
            replicas=(headroom.replicas or 0) if headroom else 0, zones=(headroom.zones or 0) if headroom else 0
        ),
    )


def _workload(
    spec: CycleServiceSpec, evidence: Evidence, requests_per_second: float, tokens: tuple[int, int] | None
) -> model.Workload:
    """What the spec leaves out of lengths is the longest that was measured."""
    profiles = [profile.spec for profile in evidence.profiles]
    lengths = [row.sequence_length for profile in profiles for row in profile.rows]
    prompts = [row.prompt_tokens for profile in profiles for row in profile.generation]
    answers = [row.output_tokens for profile in profiles for row in profile.generation]
    inputs, outputs = spec.traffic.input_tokens, spec.traffic.output_tokens
    if tokens is not None:
        inputs = InputTokens(p50=tokens[0], p99=tokens[1])
    longest, most = max([*lengths, *prompts], default=1), max(answers, default=None)
    return model.Workload(
        rate_per_second=requests_per_second,
        input_tokens_p50=inputs.p50 if inputs else longest,
        input_tokens_p99=inputs.p99 if inputs else longest,
        output_tokens_p50=outputs.p50 if outputs else most,
        output_tokens_p99=outputs.p99 if outputs else most,
        classes=_classes(spec, inputs or InputTokens(p50=longest, p99=longest)),
    )


def _classes(spec: CycleServiceSpec, tokens: InputTokens) -> tuple[model.TrafficClass, ...]:
    """``tokens``: of those that don't say."""
    together = sum(one.requests_per_second for one in spec.traffic.classes)
    budget = spec.budget.latency
    return tuple(
        model.TrafficClass(
            name=one.name,
            rate_share=float(one.requests_per_second / together),
            input_tokens_p50=(one.input_tokens or tokens).p50,
            input_tokens_p99=(one.input_tokens or tokens).p99,
            percentile=float((one.latency or budget).percentile),
            latency_share=float((one.latency or budget).milliseconds / budget.milliseconds),
        )
        for one in spec.traffic.classes
    )


def _budget(budget: Budget) -> model.Budget:
    stages, accuracy = budget.stages, budget.accuracy
    floor = None
    if accuracy is not None:
        floor = model.AccuracyFloor(
            metric=accuracy.metric,
            minimum=float(accuracy.minimum) if accuracy.minimum is not None else None,
            maximum_drop=float(accuracy.maximum_drop) if accuracy.maximum_drop is not None else None,
            baseline=accuracy.baseline,
        )
    pre, post = (stages.pre_milliseconds, stages.post_milliseconds) if stages else (None, None)
    tokens = budget.generation
    first, each = (tokens.first_token_milliseconds, tokens.per_token_milliseconds) if tokens else (None, None)
    return model.Budget(
        percentile=float(budget.latency.percentile),
        latency_milliseconds=float(budget.latency.milliseconds),
        pre_milliseconds=float(pre) if pre is not None else None,
        post_milliseconds=float(post) if post is not None else None,
        first_token_milliseconds=float(first) if first is not None else None,
        per_token_milliseconds=float(each) if each is not None else None,
        accuracy=floor,
    )


def _candidates(
    evidence: Evidence, classes: Mapping[str, HardwareClassSpec], corrections: Corrections
) -> Iterator[model.Candidate]:
    for profile in evidence.profiles:
        name = profile.spec.hardware_class
        changed = profile.spec.hardware_class_hash != hardware_class_hash(classes[name])
        stale = f"HardwareClass {name} changed since it was measured" if changed else ""
        measured = slower(profile.spec, corrections.slowness_of(profile.metadata.name, name))
        yield model.Candidate(profile=measured, hardware=_option(profile, classes[name]), stale=stale)


def _option(profile: CycleProfile, hardware: HardwareClassSpec) -> model.HardwareOption:
    """As ``profile``'s model uses it. Text is generated by one process, which has the threads and the cores of all."""
    workers = server_workers_of(hardware)
    processes = 1 if profile.spec.generation else workers
    return model.HardwareOption(
        name=profile.spec.hardware_class,
        cost_per_hour=float(hardware.cost_per_hour),
        maximum_replicas=hardware.maximum_replicas,
        threads=server_threads_of(hardware) * workers // processes,
        cpu_limit_cores=cpu_limit_of(hardware, processes=processes),
    )


def _pinned(spec: CycleServiceSpec) -> model.Pinned | None:
    pinned = spec.planning.pinned
    if pinned is None or spec.planning.mode is not PlanningMode.PINNED:
        return None
    return model.Pinned(
        variant=pinned.variant,
        hardware=pinned.hardware,
        batch_size=pinned.batch_size,
        delay_milliseconds=float(pinned.delay_milliseconds),
        replicas=pinned.replicas,
    )
