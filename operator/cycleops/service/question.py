"""The planner's question, from the API's objects. Pure; takes seconds, so call it in a thread."""

from collections.abc import Iterator, Mapping

from cycleops.api.budget import Budget
from cycleops.api.cores import server_threads_of
from cycleops.api.cycleservice import CycleServiceSpec, PlanningMode
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.api.hashes import hardware_class_hash
from cycleops.planner import model
from cycleops.planner.planning import Planner
from cycleops.planner.result import PlanResult
from cycleops.service.evidence import Evidence
from cycleops.service.quantities import cpu_limit_of


def ask(
    *,
    spec: CycleServiceSpec,
    evidence: Evidence,
    classes: Mapping[str, HardwareClassSpec],
    requests_per_second: float,
    planner: Planner | None = None,
) -> PlanResult:
    """``planner``: one that has planned for this service before is quicker."""
    return (planner or Planner()).plan(
        workload=_workload(spec, evidence, requests_per_second),
        budget=_budget(spec.budget),
        candidates=_candidates(evidence, classes),
        limits=model.Limits(minimum_replicas=spec.replicas.minimum, maximum_replicas=spec.replicas.maximum),
        algorithm=model.Algorithm(spec.load_balancing.algorithm.value),
        pinned=_pinned(spec),
    )


def _workload(spec: CycleServiceSpec, evidence: Evidence, requests_per_second: float) -> model.Workload:
    """What the spec leaves out of lengths is the longest that was measured."""
    profiles = [profile.spec for profile in evidence.profiles]
    lengths = [row.sequence_length for profile in profiles for row in profile.rows]
    prompts = [row.prompt_tokens for profile in profiles for row in profile.generation]
    answers = [row.output_tokens for profile in profiles for row in profile.generation]
    inputs, outputs = spec.traffic.input_tokens, spec.traffic.output_tokens
    longest, most = max([*lengths, *prompts], default=1), max(answers, default=None)
    return model.Workload(
        rate_per_second=requests_per_second,
        input_tokens_p50=inputs.p50 if inputs else longest,
        input_tokens_p99=inputs.p99 if inputs else longest,
        output_tokens_p50=outputs.p50 if outputs else most,
        output_tokens_p99=outputs.p99 if outputs else most,
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


def _candidates(evidence: Evidence, classes: Mapping[str, HardwareClassSpec]) -> Iterator[model.Candidate]:
    for profile in evidence.profiles:
        name = profile.spec.hardware_class
        option = model.HardwareOption(
            name=name,
            cost_per_hour=float(classes[name].cost_per_hour),
            maximum_replicas=classes[name].maximum_replicas,
            threads=server_threads_of(classes[name]),
            cpu_limit_cores=cpu_limit_of(classes[name]),
        )
        changed = profile.spec.hardware_class_hash != hardware_class_hash(classes[name])
        stale = f"HardwareClass {name} changed since it was measured" if changed else ""
        yield model.Candidate(profile=profile.spec, hardware=option, stale=stale)


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
