"""Where the seconds of a training went: queued, starting, productive, checkpointing, restarting, lost. Pure.

The clock of each state is stopped when the state changes, so a pass in which nothing happens changes nothing. What a
running attempt did comes with its progress reports, which are written anyway.
"""

import datetime as dt

from cycle_wire.reports import ProgressReport, WorldReport
from cycleops.api.cyclejob_status import Attempt, Goodput, GoodputState
from cycleops.job.decision import Decision, Step
from cycleops.job.observation import Observation

_CLOCKS = {
    GoodputState.QUEUED: "queued_seconds",
    GoodputState.STARTING: "starting_seconds",
    GoodputState.RESTARTING: "restarting_seconds",
    GoodputState.SUSPENDED: "suspended_seconds",
    GoodputState.TRAINING: "training_seconds",
}


def account(o: Observation, decision: Decision) -> Goodput:
    """The account after this pass. It ends when the training has ended."""
    before = o.job.status.goodput or Goodput(state=GoodputState.QUEUED, since=_created(o))
    if before.state is GoodputState.ENDED:
        return before
    after = before
    for delivery in o.deliveries:
        if isinstance(delivery.message, WorldReport):
            after = _close_attempt(after)
        elif isinstance(delivery.message, ProgressReport):
            after = _with_progress(after, delivery.message)
    state = _state(o, decision, before=before.state)
    if state is GoodputState.ENDED:
        after = _close_attempt(after)
    return _with_ratio(_enter(after, state, now=o.now.replace(microsecond=0)))


def spent(before: Goodput | None, after: Goodput | None) -> dict[str, float]:
    """Seconds that a pass added to each part of the account, for counters, which never go down."""
    if after is None:
        return {}
    names = [*_CLOCKS.values(), "productive_seconds", "checkpointing_seconds", "lost_seconds"]
    grown = {name: getattr(after, name) - (getattr(before, name) if before is not None else 0.0) for name in names}
    return {name.removesuffix("_seconds"): seconds for name, seconds in grown.items() if seconds > 0.0}


def _created(o: Observation) -> dt.datetime:
    return (o.job.metadata.creation_timestamp or o.now).replace(microsecond=0)


def _state(o: Observation, decision: Decision, *, before: GoodputState) -> GoodputState:
    if decision.step is Step.SUSPEND:
        return GoodputState.SUSPENDED
    if decision.step in (Step.COMPRESS, Step.PROFILE, Step.SUCCEED, Step.FAIL):
        return GoodputState.ENDED
    if any(isinstance(delivery.message, WorldReport) for delivery in o.deliveries):
        return GoodputState.TRAINING
    if decision.step not in (Step.TRAIN, Step.RESTART):
        return before
    if before is GoodputState.QUEUED:
        # A world in the status of an account that begins: the operator that started this job kept none.
        return GoodputState.TRAINING if o.evidence.world is not None else GoodputState.STARTING
    if before is GoodputState.SUSPENDED:
        return GoodputState.RESTARTING if o.evidence.world is not None else GoodputState.STARTING
    failed = decision.step is Step.RESTART or o.failures > (o.job.status.restarts or 0)
    if before is GoodputState.TRAINING and failed:
        return GoodputState.RESTARTING
    return before


def _enter(account: Goodput, state: GoodputState, *, now: dt.datetime) -> Goodput:
    if state is account.state:
        return account
    clock = _CLOCKS[account.state]
    spent = max((now - account.since).total_seconds(), 0.0)
    return account.model_copy(update={"state": state, "since": now, clock: round(getattr(account, clock) + spent, 1)})


def _with_progress(account: Goodput, report: ProgressReport) -> Goodput:
    """The attempt as it stands. Steps that it does again were lost by the one before."""
    attempt = account.attempt
    if attempt is not None and report.first_step != attempt.first_step:
        account = _close_attempt(account)
        attempt = None
    if attempt is None:
        account = _lose(account, done_again=account.last_step - report.first_step)
    running = Attempt(
        first_step=report.first_step,
        last_step=report.step,
        productive_seconds=round(report.attempt_productive_seconds, 1),
        checkpointing_seconds=round(report.attempt_checkpointing_seconds, 1),
    )
    return account.model_copy(update={"attempt": running, "last_step": report.step})


def _close_attempt(account: Goodput) -> Goodput:
    """A new attempt begins: what the one before did is added up."""
    attempt = account.attempt
    if attempt is None:
        return account
    steps = attempt.last_step - attempt.first_step
    return account.model_copy(
        update={
            "attempt": None,
            "earlier_productive_seconds": round(account.earlier_productive_seconds + attempt.productive_seconds, 1),
            "checkpointing_seconds": round(account.checkpointing_seconds + attempt.checkpointing_seconds, 1),
            "step_seconds": round(attempt.productive_seconds / steps, 4) if steps > 0 else account.step_seconds,
        }
    )


def _lose(account: Goodput, *, done_again: int) -> Goodput:
    """Steps behind the checkpoint that the new attempt resumes from were for nothing."""
    lost = min(max(done_again, 0) * account.step_seconds, account.earlier_productive_seconds)
    return account.model_copy(
        update={
            "lost_steps": account.lost_steps + max(done_again, 0),
            "lost_seconds": round(account.lost_seconds + lost, 1),
            "earlier_productive_seconds": round(account.earlier_productive_seconds - lost, 1),
        }
    )


def _with_ratio(account: Goodput) -> Goodput:
    """Productive seconds over all seconds of the states that are over, and of the running attempt."""
    attempt = account.attempt or Attempt()
    productive = account.earlier_productive_seconds + attempt.productive_seconds
    over = sum(float(getattr(account, clock)) for clock in _CLOCKS.values())
    if account.state is GoodputState.TRAINING:  # its clock runs on: what its attempt reported stands for it
        over += attempt.productive_seconds + attempt.checkpointing_seconds
    ratio = round(min(productive / over, 1.0), 3) if over > 0 and productive > 0 else None
    return account.model_copy(update={"productive_seconds": round(productive, 1), "ratio": ratio})
