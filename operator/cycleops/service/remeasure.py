"""Whether stale profiles are measured anew, and how far that is. Pure.

A run measures every class that the service may use and has profiles of, one after the other, the one that serves first:
batch sizes and lengths of the profiles there are, and what arrives now. The new profiles stand beside the old ones and
win because they are newer; nothing is changed or deleted.

1. A run is under way?                          take in what its pods reported and how its Job ended
2. Profiles are not stale?                      nothing
3. Off, or it is not known what to measure?     say so
4. Not stale for long enough, or measured of late?  wait; the longer, the less the runs before have helped
5. Else                                         a new run
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cycle_wire.reports import FailureReport, ProfileReport
from cycleops.api.conditions import ConditionStatus, ServiceCondition, find_condition
from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice import CycleService
from cycleops.api.cycleservice_status import RemeasuredProfile, Remeasurement
from cycleops.api.reasons import Reason
from cycleops.controller.kinds import JOB
from cycleops.controller.reconcile import Happening
from cycleops.service.adaptation import adaptation, profile_current
from cycleops.service.children import Names
from cycleops.service.finding import Finding
from cycleops.service.interval import length_at
from cycleops.service.measuring import profile_name
from cycleops.service.observation import ServiceObservation

RETRY_SECONDS = 900.0  # after a run that gave no profile; doubled each time
LONGEST_SECONDS = 30 * 86_400.0
_MOST_SIZES = 16  # of batch sizes and of lengths: a profile has at most 512 rows
_LARGEST_BATCH = 1024
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Remeasuring:
    """``run``: for the status, None before the first. ``finding``: the condition Remeasuring."""

    run: Remeasurement | None
    finding: Finding

    @property
    def measures(self) -> str:
        """The class whose Job should be there; empty when none should."""
        return self.run.pending[0] if self.run is not None and self.run.completion_time is None else ""


def remeasure(o: ServiceObservation) -> Remeasuring:
    run = _followed(o)
    if run is not None and run.completion_time is None:
        return Remeasuring(run, _finding(True, Reason.MEASURING_ANEW, _under_way(o, run)))
    current = profile_current(o, adaptation(o))
    if current.status is not False:
        if run is not None and current.status and not run.held:
            run = run.model_copy(update={"held": True})
        return Remeasuring(run, _ended(run))
    if not o.spec.remeasure.enabled:
        return Remeasuring(run, _finding(False, Reason.REMEASURE_OFF, f"spec.remeasure.enabled is false: {_BY_HAND}"))
    places = _places(o)
    if not places:
        return Remeasuring(run, _finding(False, Reason.SOURCE_UNKNOWN, _UNKNOWN))
    if o.adapted is None:
        return Remeasuring(run, _finding(False, Reason.REMEASURE_WAITS, "until what serves is measured again"))
    earliest = _earliest(o, run)
    if o.now < earliest:
        return Remeasuring(run, _finding(False, Reason.REMEASURE_WAITS, _waits(run, earliest)))
    started = _started(o, run, places)
    return Remeasuring(started, _finding(True, Reason.MEASURING_ANEW, _under_way(o, started)))


_BY_HAND = "run a CycleJob that trains and profiles the model, and name it in spec.model"
_UNKNOWN = f"the profiles don't say what they are measured from, as those of older operators: {_BY_HAND}"


def _finding(status: bool, reason: Reason, message: str) -> Finding:
    return Finding(ServiceCondition.REMEASURING, status, reason, message)


def _places(o: ServiceObservation) -> list[str]:
    """Classes to measure on; what serves comes first."""
    known = {p.spec.hardware_class for p in o.evidence.profiles if p.spec.source is not None}
    serving = o.deployed.hardware if o.deployed is not None else ""
    return sorted(known & o.classes.keys(), key=lambda name: (name != serving, name))


def is_withheld(profile: CycleProfile, *, service: CycleService) -> bool:
    """Of a run that is under way: plans from half of it would compare what was measured for different inputs."""
    run, made = service.status.remeasurement, profile.metadata.creation_timestamp
    if run is None or run.completion_time is not None or profile.spec.service != service.metadata.name:
        return False
    return made is None or made >= run.start_time


def variants_on(profiles: tuple[CycleProfile, ...], hardware: str) -> list[CycleProfile]:
    """The profiles that are to be measured again on a class."""
    return [p for p in profiles if p.spec.hardware_class == hardware and p.spec.source is not None]


def _earliest(o: ServiceObservation, run: Remeasurement | None) -> dt.datetime:
    before, policy = find_condition(o.status.conditions, ServiceCondition.PROFILE_CURRENT), o.spec.remeasure
    was_stale = before is not None and before.status is ConditionStatus.FALSE
    since = before.last_transition_time if before is not None and was_stale else o.now.replace(microsecond=0)
    earliest = since + dt.timedelta(seconds=policy.after_seconds)
    if run is None or run.completion_time is None:
        return earliest
    doubled = 2.0 ** min(run.in_a_row - 1, 30)
    usual = min(policy.minimum_interval_seconds * doubled, LONGEST_SECONDS)
    if not run.profiles:
        again = run.completion_time + dt.timedelta(seconds=min(RETRY_SECONDS * doubled, usual))
    else:
        again = run.start_time + dt.timedelta(seconds=usual if not run.held else policy.minimum_interval_seconds)
    return max(earliest, again)


def _started(o: ServiceObservation, before: Remeasurement | None, places: list[str]) -> Remeasurement:
    now = o.now.replace(microsecond=0)
    helped = before is None or before.held
    return Remeasurement(
        run=before.run + 1 if before is not None else 1,
        in_a_row=1 if helped or before is None else before.in_a_row + 1,
        reasons=list(said.stale) if (said := adaptation(o)) is not None else [],
        batch_sizes=_batch_sizes(o),
        sequence_lengths=_lengths(o),
        pending=places,
        start_time=now,
        class_start_time=now,
    )


def _batch_sizes(o: ServiceObservation) -> list[int]:
    """Those of the profiles; a larger one when more requests come and the largest serves already."""
    rows = [p.spec for p in o.evidence.profiles]
    known = {row.batch_size for spec in rows for row in spec.rows} | {g.concurrency for s in rows for g in s.generation}
    largest = max(known, default=1)
    more = o.adapted is not None and o.adapted.memory.state.watch.rate_is_higher
    if more and o.deployed is not None and o.deployed.batch_size >= largest:
        known.add(min(2 * largest, _LARGEST_BATCH))
    return sorted(known or {1})[-_MOST_SIZES:]


def _lengths(o: ServiceObservation) -> list[int]:
    """Tokens. Those of the profiles, and where half and 99 of 100 inputs are now if they have shifted."""
    specs = [p.spec for p in o.evidence.profiles]
    known = {row.sequence_length for spec in specs for row in spec.rows}
    known |= {row.prompt_tokens for spec in specs for row in spec.generation}
    shifted = o.adapted.memory.state.watch.lengths.shifted if o.adapted is not None else ()
    new = {n for share in (0.5, 0.99) if (n := length_at(shifted, share)) is not None}
    kept = sorted(known - new)[-(_MOST_SIZES - len(new)) :]
    return sorted({*kept, *new} or {1})


def _followed(o: ServiceObservation) -> Remeasurement | None:
    """The run of the status, with what has happened since."""
    run = o.status.remeasurement
    if run is None or run.completion_time is not None:
        return run
    run = _reported(o, run)
    place = run.pending[0]
    ended, why = _job_end(o, Names(o.owner.name).measuring(run=run.run, hardware=place))
    missing = {p.spec.variant for p in variants_on(o.evidence.profiles, place)} - {
        made.variant for made in run.profiles if made.hardware == place
    }
    if place not in o.classes or (o.evidence.ready and not variants_on(o.evidence.profiles, place)):
        ended, why = True, "the HardwareClass or its profiles are gone"
    elif ended and not why and missing:
        why = f"it ended without reporting {', '.join(sorted(missing))}"
    if not ended:
        return run
    told = any(text.startswith(f"{place}: ") for text in run.failed)
    failed = [*run.failed, f"{place}: {why}"[:_LONGEST]] if why and not told else run.failed
    now, left = o.now.replace(microsecond=0), run.pending[1:]
    done = {"completion_time": now} if not left else {"class_start_time": now}
    return run.model_copy(update={"pending": left, "failed": failed, **done})


def _reported(o: ServiceObservation, run: Remeasurement) -> Remeasurement:
    profiles, failed = list(run.profiles), list(run.failed)
    for delivery in o.deliveries:
        message = delivery.message
        if isinstance(message, ProfileReport):
            name = profile_name(o.owner.name, message.profile)
            variant, hardware = message.profile.variant, message.profile.hardware_class
            profiles = [p for p in profiles if (p.variant, p.hardware) != (variant, hardware)]
            profiles.append(RemeasuredProfile(variant=variant, hardware=hardware, name=name))
        elif isinstance(message, FailureReport):
            failed.append(f"{run.pending[0]}: {message.reason}: {message.message}"[:_LONGEST])
    return run.model_copy(update={"profiles": profiles, "failed": failed[-_MOST_SIZES:]})


def _job_end(o: ServiceObservation, name: str) -> tuple[bool, str]:
    """Whether the Job ended, and why when it failed."""
    facts = o.children.get((JOB.kind, name))
    if facts is None or facts.deleting:
        return False, ""
    conditions = {c["type"]: c for c in facts.body["status"].get("conditions", []) if c["status"] == "True"}
    failed = conditions.get("Failed")
    if failed is not None:
        return True, f"Job {name} failed, {failed.get('reason', 'Failed')}: {failed.get('message', '')}"
    return "Complete" in conditions, ""


def _under_way(o: ServiceObservation, run: Remeasurement) -> str:
    job = Names(o.owner.name).measuring(run=run.run, hardware=run.pending[0])
    then = f", then on {', '.join(run.pending[1:])}" if len(run.pending) > 1 else ""
    return f"{_what(run)} on {run.pending[0]} by Job {job}{then}, because {'; '.join(run.reasons)}"


def _what(run: Remeasurement) -> str:
    sizes, lengths = (", ".join(map(str, values)) for values in (run.batch_sizes, run.sequence_lengths))
    return f"run {run.run} measures batches of {sizes} at {lengths} tokens"


def _ended(run: Remeasurement | None) -> Finding:
    if run is None:
        return _finding(False, Reason.NOTHING_STALE, "no profile was stale so far")
    why = f"; {'; '.join(run.failed)}" if run.failed else ""
    if not run.profiles:
        return _finding(False, Reason.REMEASURE_FAILED, f"run {run.run} gave no profile{why}")
    made = ", ".join(f"{p.variant} on {p.hardware}" for p in run.profiles)
    return _finding(False, Reason.MEASURED_ANEW, f"run {run.run} measured {made}{why}")


_TOLD = (Reason.MEASURING_ANEW, Reason.MEASURED_ANEW, Reason.REMEASURE_FAILED)


def happenings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Happening]:
    """That a run began or ended, by two statuses as plain JSON."""
    new, reason = _condition(after), _condition(after).get("reason")
    if reason not in _TOLD or reason == _condition(before).get("reason"):
        return []
    return [Happening(reason, new["message"], warning=reason == Reason.REMEASURE_FAILED)]


def _condition(status: Mapping[str, Any]) -> Mapping[str, str]:
    found = (c for c in status.get("conditions", ()) if c["type"] == ServiceCondition.REMEASURING)
    return next(found, {})


def _waits(run: Remeasurement | None, earliest: dt.datetime) -> str:
    at = earliest.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = f". Before: {_ended(run).message}" if run is not None else ""
    return f"not measured anew before {at}{before}"
