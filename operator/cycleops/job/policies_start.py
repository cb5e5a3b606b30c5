"""What must be in order before pods may start. Pure; one plain line each."""

from cycleops.api.reasons import Reason
from cycleops.api.uri import BadUriError, parse_uri
from cycleops.job.decision import Decision, Step, fail, wait
from cycleops.job.observation import Observation, uris_of

RETRY_SECONDS = 5.0


def suspended(o: Observation) -> Decision | None:
    """A suspended job has no pods; what it has trained so far is kept in its checkpoints."""
    if not o.spec.suspend:
        return None
    return Decision(Step.SUSPEND, Reason.SUSPENDED, "spec.suspend is true: set it to false to go on")


def bad_uri(o: Observation) -> Decision | None:
    """A URI that can't be mounted fails the job: its spec can't be changed."""
    for field, text in uris_of(o.spec).items():
        try:
            parse_uri(text)
        except BadUriError as error:
            return fail(Reason.BAD_URI, f"{field}: {error}")
    return None


def hardware_missing(o: Observation) -> Decision | None:
    """Without its HardwareClasses a job waits."""
    fields = {o.spec.workers.hardware: "spec.workers.hardware"}
    fields |= {name: "spec.profile.hardware" for name in o.profile_classes if name not in fields}
    for name, field in fields.items():
        if name not in o.classes:
            message = f"{field}: there is no HardwareClass {name}; the job waits until it is created"
            return wait(Reason.HARDWARE_CLASS_NOT_FOUND, message)
    return None


def batch_does_not_divide(o: Observation) -> Decision | None:
    """Every rank takes the same number of micro batches, so the global batch must divide evenly."""
    training, replicas = o.spec.training, o.spec.workers.replicas
    world = replicas * o.slots_per_host
    step = training.micro_batch_size * world
    if training.global_batch_size % step == 0:
        return None
    return fail(
        Reason.BAD_CONFIGURATION,
        f"spec.training.globalBatchSize {training.global_batch_size} is not a multiple of "
        f"spec.training.microBatchSize {training.micro_batch_size} x world size {world} "
        f"(spec.workers.replicas {replicas} x {o.slots_per_host} ranks each): change one of them in a new job",
    )


def claim_missing(o: Observation) -> Decision | None:
    """Without its claims a job waits: pods that mount them would hang without saying why."""
    for claim, field in o.claims_of_spec().items():
        if claim in o.claims and o.claims[claim] is None:
            message = (
                f"{field}: there is no PersistentVolumeClaim {claim} in namespace {o.owner.namespace}; "
                "the job waits until it is created"
            )
            return wait(Reason.CLAIM_NOT_FOUND, message, seconds=RETRY_SECONDS)
    return None
