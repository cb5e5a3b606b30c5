"""The chain of policies, first answer wins. Read from top to bottom it is the life of a CycleJob. Pure."""

from cycleops.job import policies_end as end
from cycleops.job import policies_run as run
from cycleops.job import policies_start as start
from cycleops.job.decision import Decision, Policy
from cycleops.job.observation import Observation

CHAIN: tuple[Policy, ...] = (
    end.already_ended,
    end.deadline_passed,
    end.wrong_world,
    start.bad_uri,
    start.hardware_missing,
    start.batch_does_not_divide,
    start.suspended,
    start.claim_missing,
    run.training_failed,
    run.hangs,
    run.trained_without_world,
    run.trained_without_model,
    run.training,
    run.compression_failed,
    run.compressing,
    run.profiling_failed,
    run.profiling,
    run.finished,
)


def decide(observation: Observation) -> Decision:
    for policy in CHAIN:
        decision = policy(observation)
        if decision is not None:
            return decision
    raise AssertionError("the last policy of the chain always answers")
