"""Training, compression, profiling: where they stand, and what of them ends the job. Pure; one plain line each."""

from cycleops.api.cyclejob_status import Goodput, GoodputState
from cycleops.api.reasons import Reason
from cycleops.job import names
from cycleops.job.decision import Decision, Step, fail
from cycleops.job.observation import ChildJob, Observation

# Reasons of a Job's failure that mean: more often than backoffLimit, or backoffLimitPerIndex, allows.
_TOO_OFTEN = ("BackoffLimitExceeded", "MaxFailedIndexesExceeded", "FailedIndexes")


def training_failed(o: Observation) -> Decision | None:
    """A training that gave up fails the job, with what its pods said."""
    job = o.training_job
    if job is None or not job.failed_reason or o.evidence.model is not None:
        return None
    reason = Reason.LAUNCHER_FAILED if o.spec.workers.has_launcher else Reason.WORKER_FAILED
    return _failed(o, job, what="training", failures=o.failures, otherwise=reason)


def hangs(o: Observation) -> Decision | None:
    """A training of which nothing was heard for progressDeadlineSeconds starts anew; if too often, the job fails."""
    left = silence_left_seconds(o, o.job.status.goodput)
    if left is None or left > 0.0:
        return None
    progress, limit = o.evidence.progress, o.spec.run_policy.backoff_limit
    step = f"step {progress.step}" if progress is not None else "the world"
    message = f"no rank reported anything for {o.spec.run_policy.progress_deadline_seconds} s after {step}"
    if o.failures >= limit:
        text = f"{message}, and {limit} restarts were allowed: raise spec.runPolicy.progressDeadlineSeconds if a step "
        return fail(
            Reason.PROGRESS_DEADLINE_EXCEEDED, text + f"takes longer, else look at the workers' logs{_notes(o)}"
        )
    return Decision(Step.RESTART, Reason.HANGS, f"{message}: the training is started anew")


def silence_left_seconds(o: Observation, goodput: Goodput | None) -> float | None:
    """Seconds until the running training has been silent for too long; None when nothing trains or may be silent."""
    seconds, progress = o.spec.run_policy.progress_deadline_seconds, o.evidence.progress
    if o.training_job is None or o.training_job.ended or o.spec.suspend:
        return None
    if goodput is None or goodput.state is not GoodputState.TRAINING:
        return None
    signs = [goodput.since, o.heard, *([progress.time] if progress is not None and progress.time is not None else [])]
    return seconds - (o.now - max(signs)).total_seconds()


def trained_without_world(o: Observation) -> Decision | None:
    """A training that exits 0 though no world was reported proved nothing: the job fails."""
    if o.training_job is None or not o.training_job.complete or o.evidence.world is not None:
        return None
    return fail(
        Reason.WORLD_NOT_REPORTED,
        "the training exited 0, but rank 0 never reported its world: nothing shows that the workers trained together",
    )


def trained_without_model(o: Observation) -> Decision | None:
    """A training that exits 0 without a model fails the job."""
    if o.training_job is None or not o.training_job.complete or o.evidence.model is not None:
        return None
    return fail(Reason.MODEL_NOT_REPORTED, "the training exited 0, but rank 0 never reported a trained model")


def training(o: Observation) -> Decision | None:
    """Until the model is there and the training's Job has ended, the job trains."""
    if training_done(o):
        return None
    workers, replicas = o.workers, o.spec.workers.replicas
    notes = _notes(o)
    if o.failures > 0 and (o.evidence.world is None or o.evidence.failure is not None):
        return _restarting(o, notes)
    if o.evidence.world is not None:
        return Decision(Step.TRAIN, Reason.TRAINING, f"{replicas} workers train{_resumed(o)}{notes}")
    ready = workers.ready if workers is not None else 0
    return Decision(Step.TRAIN, Reason.STARTING, f"{ready} of {replicas} workers are ready{notes}")


def _restarting(o: Observation, notes: str) -> Decision:
    said = f": {o.evidence.failure.message}" if o.evidence.failure is not None else ""
    checkpoint = o.evidence.last_checkpoint
    start = f"from step {checkpoint.step}" if checkpoint is not None else "from the start"
    message = (
        f"the training failed {_times(o.failures)} ({o.spec.run_policy.backoff_limit} restarts allowed){said}; "
        f"it goes on {start}{notes}"
    )
    return Decision(Step.TRAIN, Reason.RESTARTING, message)


def _resumed(o: Observation) -> str:
    """After a failure: how often it failed, and what a further one would go on from."""
    again, checkpoint = _again(o.failures), o.evidence.last_checkpoint
    return f"{again}; the newest checkpoint is of step {checkpoint.step}" if again and checkpoint else again


def training_done(o: Observation) -> bool:
    """The model is reported and nothing of the training runs any more."""
    if o.evidence.model is None or o.evidence.world is None:
        return False
    return o.training_job is None or o.training_job.ended


def compression_failed(o: Observation) -> Decision | None:
    """A compression that gave up fails the job, with what its pod said."""
    job = o.jobs.get(names.compress(o.name))
    if job is None or not job.failed_reason or o.evidence.variants:
        return None
    return _failed(o, job, what="compression", failures=job.failed, otherwise=Reason.COMPRESSION_FAILED)


def compressing(o: Observation) -> Decision | None:
    """Until every variant of the spec is reported and the compression has ended, variants are made."""
    made = {variant.name for variant in o.evidence.variants}
    missing = [variant.name for variant in o.spec.variants if variant.name not in made]
    job = o.jobs.get(names.compress(o.name))
    if not missing and (job is None or job.ended):
        return None
    if job is not None and job.complete and missing:
        text = f"the compression ended without reporting the variants {', '.join(missing)}"
        return fail(Reason.COMPRESSION_FAILED, text)
    count = len(o.spec.variants)
    return Decision(
        Step.COMPRESS,
        Reason.COMPRESSING,
        f"{count} variants are being made{_again(job.failed if job is not None else 0)}{_notes(o)}",
    )


def profiling_failed(o: Observation) -> Decision | None:
    """A measurement that gave up, or ended without measuring every variant, fails the job."""
    for name in o.profile_classes:
        job = o.jobs.get(names.profile(o.name, hardware_class=name))
        missing = _unmeasured(o, name)
        if job is None or not job.ended or not missing:
            continue
        if job.failed_reason:
            what = f"profiling on {name}"
            return _failed(o, job, what=what, failures=job.failed, otherwise=Reason.PROFILING_FAILED)
        text = f"profiling on {name} ended without reporting the variants {', '.join(missing)}"
        return fail(Reason.PROFILING_FAILED, text)
    return None


def profiling(o: Observation) -> Decision | None:
    """Until every variant is measured on every class, variants are measured."""
    jobs = [o.jobs.get(names.profile(o.name, hardware_class=name)) for name in o.profile_classes]
    todo = [name for name in o.profile_classes if _unmeasured(o, name)]
    if not todo and all(job is None or job.ended for job in jobs):
        return None
    count = len(o.spec.variants)
    text = f"{count} variants are being measured on {', '.join(todo or o.profile_classes)}{_notes(o)}"
    return Decision(Step.PROFILE, Reason.PROFILING, text)


def finished(o: Observation) -> Decision | None:
    """Trained, compressed and measured: the job succeeded."""
    measured = f"{len(o.evidence.profiles)} profiles on {', '.join(o.profile_classes)}"
    text = f"trained in a verified world, {len(o.evidence.variants)} variants made, {measured}"
    return Decision(Step.SUCCEED, Reason.FINISHED, text)


def _unmeasured(o: Observation, hardware_class: str) -> list[str]:
    done = {p.variant for p in o.evidence.profiles if p.hardware == hardware_class}
    return [variant.name for variant in o.spec.variants if variant.name not in done]


def _failed(o: Observation, job: ChildJob, *, what: str, failures: int, otherwise: str) -> Decision:
    """What a pod said wins; else what Kubernetes says of the Job, and of its pods."""
    failure = o.evidence.failure
    exceeded = job.failed_reason in _TOO_OFTEN
    if failure is not None and not exceeded:
        field = f"{failure.field}: " if failure.field else ""
        return fail(failure.reason, f"{field}{failure.message}")
    reason = Reason.BACKOFF_LIMIT_EXCEEDED if exceeded else otherwise
    said = f"{failure.reason}: {failure.message}" if failure is not None else job.failed_message
    tries = f"{what} failed {_times(failures)}, with {o.spec.run_policy.backoff_limit} restarts allowed"
    return fail(reason, f"{tries}; the last time: {said}{_notes(o)}")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _again(failures: int) -> str:
    return f", after failing {_times(failures)}" if failures else ""


def _notes(o: Observation) -> str:
    return "".join(f"; {note}" for note in o.pod_notes)
