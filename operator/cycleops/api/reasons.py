"""Reasons of conditions: stable words for programs, each with what it means.

A condition's message carries the particulars and says what to do.
"""

from enum import StrEnum
from typing import Self


class _Documented(StrEnum):
    """A string with its line in the reference."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class CandidateReason(_Documented):
    """Why a candidate lost: ``reason`` of a CycleService's ``status.rejected``. The planner gives the same words."""

    MIXED_TASKS = "MixedTasks", "Profiles of models that generate text stand beside profiles of models that don't."
    NO_ROWS = "NoRows", "Its profile has no complete grid of batch sizes and lengths to plan from."
    OUTSIDE_MEASURED_RANGE = "OutsideMeasuredRange", "The traffic has longer inputs than any that was measured."
    METRIC_MISSING = "MetricMissing", "The metric of the accuracy floor was not measured."
    BASELINE_MISSING = "BaselineMissing", "The baseline variant was not measured on this hardware."
    BELOW_ACCURACY_FLOOR = "BelowAccuracyFloor", "Less accurate than the budget allows."
    STAGE_CAP_EXCEEDED = "StageCapExceeded", "One term of T is above its cap."
    LATENCY_FLOOR = "LatencyFloor", "Even an idle server is too slow."
    RATE_ABOVE_CAPACITY = "RateAboveCapacity", "As many replicas as are allowed can't carry the rate."
    REPLICA_LIMIT = "ReplicaLimit", "They carry the rate, but not within the latency budget."
    NOT_PINNED = "NotPinned", "Another plan is pinned."
    COSTLIER = "Costlier", "Meets the budget at a higher cost."
    LESS_ACCURATE = "LessAccurate", "As cheap as the plan, and less accurate."
    SLOWER = "Slower", "As cheap and as accurate as the plan, and slower."


class ScalingReason(_Documented):
    """Why there are so many server pods: ``reason`` of a CycleService's ``status.adaptation``."""

    ENOUGH = "Enough", "As many as are needed."
    RATE_GROWS = "RateGrows", "The forecast, with its interval, needs more."
    SURGE_KEPT = "SurgeKept", "Another surge like the last would cost more late answers than can be afforded."
    FEWER_DO = "FewerDo", "For long enough fewer would have sufficed."
    HELD = "Held", "Fewer would do, but not for long enough yet."
    AT_MAXIMUM = "AtMaximum", "More are needed than are allowed."
    MEASUREMENT_STALE = "MeasurementStale", "No fresh numbers from the pods: nothing is taken away."


class Reason(_Documented):
    """``Reason.MODEL_NOT_FOUND`` is the string "ModelNotFound"; ``.meaning`` is its line in the reference."""

    # Shared
    PENDING = "Pending", "Nothing was tried yet."
    WAITING = "Waiting", "Waits for what the message names."
    AS_EXPECTED = "AsExpected", "Nothing to do."
    HARDWARE_CLASS_NOT_FOUND = "HardwareClassNotFound", "A HardwareClass that the spec names does not exist."
    SECRET_NOT_FOUND = "SecretNotFound", "A Secret that spec.tls or spec.auth names does not exist in this namespace."
    CLAIM_NOT_FOUND = "ClaimNotFound", "A PersistentVolumeClaim that a URI names does not exist in this namespace."
    CLAIM_READ_WRITE_ONCE = (
        "ClaimReadWriteOnce",
        "Admitted all the same: only pods of one node can mount a claim at a time.",
    )
    NAME_TAKEN = "NameTaken", "An object of that name belongs to another owner; it is never adopted."
    BAD_URI = "BadUri", "A URI is not one that can be mounted."
    REFUSED = "Refused", "The API server refused what the operator wanted to write; the message is its own."

    # CycleJob, its way
    SUSPENDED = "Suspended", "spec.suspend is true: there are no pods."
    NOT_SUSPENDED = "NotSuspended", "spec.suspend is false."
    ADMITTED = "Admitted", "All that the spec refers to is there; pods may start."
    STARTING = "Starting", "Pods are being started."
    TRAINING = "Training", "The world is verified and trains."
    WORLD_AS_SPECIFIED = "WorldAsSpecified", "Rank 0 found the size and hosts that the spec asks for."
    RESTARTING = "Restarting", "The training failed and starts anew from its last checkpoint."
    HANGS = "Hangs", "No rank reported anything for progressDeadlineSeconds: the training is started anew."
    TRAINING_FINISHED = "TrainingFinished", "The model is written."
    COMPRESSING = "Compressing", "Variants are being made."
    VARIANTS_MADE = "VariantsMade", "Every variant of the spec is written."
    PROFILING = "Profiling", "Variants are being measured."
    PROFILES_MADE = "ProfilesMade", "Every variant is measured on every class."
    FINISHED = "Finished", "Trained, compressed and measured."
    NOT_FAILED = "NotFailed", "Nothing failed so far."

    # CycleJob, its failures
    MODEL_NOT_FOUND = "ModelNotFound", "No model where the URI points to, or one that lacks files."
    MODEL_UNREADABLE = "ModelUnreadable", "The model's files are broken, or of another kind."
    MODEL_UNSUPPORTED = "ModelUnsupported", "The model's architecture is not one that can be trained and served."
    DATA_NOT_FOUND = "DataNotFound", "No data file where the URI points to."
    BAD_DATA = "BadData", "A data file has lines that can't be used, such as one without a field that spec names."
    LABEL_NOT_IN_TRAINING = "LabelNotInTraining", "The evaluation data has a label that the training data has not."
    BAD_CONFIGURATION = "BadConfiguration", "Settings don't fit each other, such as batch sizes and the world's size."
    MODEL_CORRUPT = "ModelCorrupt", "The trained model on the output claim is not the one its digest names."
    UNKNOWN_METRIC = "UnknownMetric", "spec.evaluation.metrics names a metric that the task does not have."
    NO_SPACE_LEFT = "NoSpaceLeft", "The output claim is full; checkpoints and models that were saved before stay."
    LOSS_NOT_FINITE = "LossNotFinite", "The loss became infinite or not a number."
    WORLD_MISMATCH = "WorldMismatch", "Rank 0 found another size or other hosts than the spec asks for."
    WORLD_NOT_REPORTED = "WorldNotReported", "The training ended without saying which world it ran in."
    MODEL_NOT_REPORTED = "ModelNotReported", "The training ended without saying where its model is."
    WORKERS_UNREACHABLE = "WorkersUnreachable", "Not every worker answered in time."
    WORKER_FAILED = "WorkerFailed", "A worker ended before the training did."
    LAUNCHER_FAILED = "LauncherFailed", "The launcher ended with an error."
    COMPRESSION_FAILED = "CompressionFailed", "Making the variants failed."
    PROFILING_FAILED = "ProfilingFailed", "Measuring the variants failed."
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded", "Failed more often than runPolicy.backoffLimit allows."
    DEADLINE_EXCEEDED = "DeadlineExceeded", "Not done after runPolicy.activeDeadlineSeconds."
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        "Nothing was reported for runPolicy.progressDeadlineSeconds, and no restart is left.",
    )
    BAD_SPEC = "BadSpec", "The spec asks for something that can't be done with this data and world."
    BAD_BATCH_SIZE = "BadBatchSize", "training.globalBatchSize is no multiple of microBatchSize times the world's size."
    BAD_SEQUENCE_LENGTH = "BadSequenceLength", "Longer than the model's positions reach."
    BAD_VARIANT = "BadVariant", "A variant's folder lacks files, or they don't fit their manifest."
    NO_SUCH_DEVICE = "NoSuchDevice", "The pod has no device of the kind that its class asks for; the message says why."
    BAD_INPUT = "BadInput", "What the pod was given can't be used; the message says why."
    OUT_OF_MEMORY = "OutOfMemory", "A container was killed for the memory it used."
    IMAGE_PULL_FAILED = "ImagePullFailed", "An image can't be had."
    UNSCHEDULABLE = "Unschedulable", "No node has room for a pod, or none that it may run on."

    # CycleService
    MODEL_PINNED = "ModelPinned", "The model's URI, digest and profiles are known."
    JOB_NOT_FOUND = "JobNotFound", "The CycleJob that the spec names does not exist."
    JOB_NOT_FINISHED = "JobNotFinished", "The CycleJob that the spec names is not done."
    JOB_FAILED = "JobFailed", "The CycleJob that the spec names failed."
    NO_PROFILES = "NoProfiles", "Nothing was measured of this model on the classes of the spec."
    PROFILES_OUTDATED = "ProfilesOutdated", "The HardwareClass changed since the variants were measured on it."
    VARIANT_NOT_FOUND = "VariantNotFound", "The pinned variant was not measured on the pinned hardware."
    PLAN_FOUND = "PlanFound", "A plan meets the budget."
    LATENCY_INFEASIBLE = "LatencyInfeasible", "No candidate meets the latency budget."
    ACCURACY_INFEASIBLE = "AccuracyInfeasible", "No variant reaches the accuracy floor."
    OUTSIDE_MEASURED_RANGE = "OutsideMeasuredRange", "The traffic has longer inputs than any that was measured."
    STAGE_INFEASIBLE = "StageInfeasible", "No candidate meets the caps by term."
    CAPACITY_INFEASIBLE = "CapacityInfeasible", "The rate needs more replicas than allowed."
    PINNED_INFEASIBLE = "PinnedInfeasible", "The pinned plan does not meet the budget; it serves all the same."
    PLAN_APPLIED = "PlanApplied", "What serves is what was planned."
    PLAN_PENDING = "PlanPending", "What was planned is being rolled out."
    RECOMMENDED = "Recommended", "planning.mode is Recommend: the plan is shown and not deployed."
    REPLICAS_READY = "ReplicasReady", "Every server and balancer pod is ready."
    ROLLING_OUT = "RollingOut", "Pods are being replaced or added."
    REPLICAS_UNAVAILABLE = "ReplicasUnavailable", "Fewer server pods are ready than are needed."
    BALANCER_UNAVAILABLE = "BalancerUnavailable", "No balancer pod is ready."
    OLD_PLAN_SERVES = "OldPlanServes", "The new budget is infeasible; the plan before it still serves."
    NO_PLAN = "NoPlan", "There is no plan to deploy."
    BUDGET_MET = "BudgetMet", "Measured T is within the budget."
    BUDGET_BROKEN = "BudgetBroken", "Measured T is above the budget; the message names the term."
    NOT_MEASURED = "NotMeasured", "Too few requests to judge."
    MEASUREMENT_STALE = "MeasurementStale", "No fresh numbers from the pods."
    PROFILE_HOLDS = "ProfileHolds", "What arrives and what is measured are what the profile says."
    PROFILE_STALE = (
        "ProfileStale",
        "Compute, inputs, labels or rates are not what they were; plans count a slower compute, and Remeasuring says "
        "what is done about it.",
    )
    NOTHING_STALE = "NothingStale", "No profile is known to be stale, so nothing is measured anew."
    MEASURING_ANEW = "MeasuringAnew", "Variants are being measured again; what serves goes on."
    MEASURED_ANEW = "MeasuredAnew", "The latest measurement is done, and plans are made from it."
    REMEASURE_WAITS = "RemeasureWaits", "Profiles are stale; the message says when they are measured anew."
    REMEASURE_FAILED = "RemeasureFailed", "The latest measurement gave no profiles; the message says why."
    REMEASURE_OFF = "RemeasureOff", "Profiles are stale, and spec.remeasure.enabled is false."
    SOURCE_UNKNOWN = "SourceUnknown", "Profiles are stale, and don't say from what they could be measured again."
    ROLLOUT_STALLED = "RolloutStalled", "Pods don't become ready; the message says what they say."
