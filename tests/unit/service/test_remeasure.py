"""Stale profiles are measured anew: when, what, and what becomes of it."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cycle_wire.buckets import TOKEN_BUCKETS
from cycle_wire.profile import Profile
from cycle_wire.reports import FailureReport, Message, ProfileReport
from cycle_wire.serving import ProfilingConfig
from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice_status import CycleServiceStatus, Remeasurement
from cycleops.controller.inbox import Delivery
from cycleops.controller.kinds import JOB
from cycleops.controller.store import Facts, Store
from cycleops.planner.adaptation import State
from cycleops.planner.adaptation.drift import Level
from cycleops.planner.adaptation.watch import Mix, Watch
from cycleops.service.desired import measuring_desired, unwanted_children
from cycleops.service.evidence import find_evidence
from cycleops.service.observation import ServiceObservation
from cycleops.service.policies import decide
from cycleops.service.remeasure import happenings, remeasure
from cycleops.service.status import new_status
from tests.unit.service.make import (
    NOW,
    OWNER,
    SETTINGS,
    deployed,
    hardware,
    observation,
    profile,
    serving,
    sources,
    spec,
)
from tests.unit.service.test_adaptation import adapted

BOUNDS = (*TOKEN_BUCKETS, math.inf)
USUAL = tuple(2000 if bound == 16 else 0 for bound in BOUNDS)
LONGER = tuple({96: 1400, 256: 600}.get(bound, 0) for bound in BOUNDS)
SHIFTED = "input lengths have shifted: stability index 5.10 over 2000 requests, above 0.10"
JOB_NAME = "supersense-measure-1-cpu-small"


def stale(*, watch: Watch | None = None, **changes: Any) -> ServiceObservation:
    """What serves is as planned, but inputs have become longer, and status has said so for ``since`` seconds."""
    since = changes.pop("since", 700)
    run = changes.pop("run", None)
    lengths = Mix(reference=USUAL, window=(0,) * len(BOUNDS), shifted=LONGER, found=SHIFTED)
    state = State(replicas=2, measured_at=NOW.timestamp(), watch=watch or Watch(lengths=lengths))
    condition = {
        "type": "ProfileCurrent", "status": "False", "reason": "ProfileStale", "message": "",
        "lastTransitionTime": NOW - timedelta(seconds=since),
    }  # fmt: skip
    status = CycleServiceStatus.model_validate({"conditions": [condition], "remeasurement": run})
    found = (SHIFTED,) if watch is None else watch.findings
    content: dict[str, Any] = {
        "adapted": adapted(2, state=state, profile_stale=found),
        "status": status,
        "children": serving(),
        "deployed": deployed(),
        "authority": "the CA",
    }
    return observation(**{**content, **changes})


def run(of: ServiceObservation) -> Remeasurement:
    found = remeasure(of).run
    assert found is not None
    return found


def reason(of: ServiceObservation) -> str:
    return str(remeasure(of).finding.reason)


def ended(**changes: Any) -> Remeasurement:
    content: dict[str, Any] = {
        "run": 1, "reasons": [SHIFTED], "batch_sizes": [1], "sequence_lengths": [16], "profiles": [
            {"variant": "int8", "hardware": "cpu-small", "name": "supersense-int8-cpu-small-0"}
        ],
        "start_time": NOW - timedelta(hours=25), "class_start_time": NOW - timedelta(hours=25),
        "completion_time": NOW - timedelta(hours=24),
    }  # fmt: skip
    return Remeasurement(**{**content, **changes})


# When


def test_stale_for_long_enough_begins_a_run_with_the_lengths_that_come() -> None:
    assert reason(stale(since=599)) == "RemeasureWaits"
    of = stale()
    assert reason(of) == "MeasuringAnew"
    begun_run = run(of)
    assert (begun_run.run, begun_run.pending, begun_run.reasons) == (1, ["cpu-small"], [SHIFTED])
    assert begun_run.batch_sizes == [1, 2, 4, 8]
    short, long = set(begun_run.sequence_lengths) - {16, 32, 64}
    assert (64 < min(short, long) <= 96, 192 < max(short, long) <= 256) == (True, True)
    assert JOB_NAME in remeasure(of).finding.message


def test_nothing_stale_off_and_unknown_sources_begin_none() -> None:
    assert reason(stale(adapted=adapted(2))) == "NothingStale"
    assert reason(stale(spec=spec(remeasure={"enabled": False}))) == "RemeasureOff"
    old = (profile("fp32", source=None), profile("int8", source=None))
    assert reason(stale(evidence=find_evidence(sources(profiles=old)))) == "SourceUnknown"
    for of in (stale(adapted=adapted(2)), stale(spec=spec(remeasure={"enabled": False}))):
        assert remeasure(of).run is None
        assert measuring_desired(of, settings=SETTINGS) == []


@pytest.mark.parametrize(
    ("before", "begins"),
    [
        (ended(), True),  # a day ago
        (ended(start_time=NOW - timedelta(hours=23)), False),
        (ended(in_a_row=2), False),  # twice without profiles that held: two days
        (ended(in_a_row=2, start_time=NOW - timedelta(hours=49)), True),
        (ended(in_a_row=9, held=True), True),  # they held, so it is another shift
        (ended(profiles=[], start_time=NOW - timedelta(hours=2), completion_time=NOW - timedelta(seconds=901)), True),
        (ended(profiles=[], start_time=NOW - timedelta(hours=2), completion_time=NOW - timedelta(seconds=899)), False),
        (ended(profiles=[], in_a_row=3, completion_time=NOW - timedelta(seconds=3599)), False),
        (ended(profiles=[], in_a_row=3, completion_time=NOW - timedelta(seconds=3601)), True),
    ],
)
def test_the_next_run_waits_for_the_interval_and_longer_when_runs_do_not_help(
    before: Remeasurement, begins: bool
) -> None:
    of = stale(run=before, since=10_000)
    assert reason(of) == ("MeasuringAnew" if begins else "RemeasureWaits")
    if begins:
        assert run(of).run == 2
        assert run(of).in_a_row == (1 if before.held else before.in_a_row + 1)
    else:
        assert run(of) == before


def test_that_profiles_hold_after_a_run_is_remembered() -> None:
    of = stale(run=ended(), adapted=adapted(2))
    assert run(of).held
    assert reason(of) == "MeasuredAnew"


def test_more_requests_than_usual_ask_for_a_larger_batch_when_the_largest_serves() -> None:
    busier = Watch(rate=Level(above=20.0), rate_found="the rate has shifted up: 80.0 requests/s, 40.0 at this time")
    assert run(stale(watch=busier)).batch_sizes == [1, 2, 4, 8]
    assert run(stale(watch=busier, deployed=deployed(batch_size=8))).batch_sizes == [1, 2, 4, 8, 16]
    quieter = Watch(rate=Level(below=20.0), rate_found="the rate has shifted down: 20.0 requests/s, 40.0 at this time")
    assert run(stale(watch=quieter, deployed=deployed(batch_size=8))).batch_sizes == [1, 2, 4, 8]


# What


def test_the_job_measures_every_variant_of_the_class_and_reports_for_the_service() -> None:
    config_map, job = measuring_desired(stale(), settings=SETTINGS)
    assert (config_map["metadata"]["name"], job["metadata"]["name"]) == (JOB_NAME, JOB_NAME)
    config = ProfilingConfig.model_validate_json(config_map["data"]["config.json"])
    assert (config.job.kind, config.job.name, config.job.uid) == ("CycleService", OWNER.name, OWNER.uid)
    assert [variant.variant.name for variant in config.variants] == ["fp32", "int8"]
    assert config.variants[1].path.endswith("/variants/int8")
    assert config.evaluation_path.endswith("/data/glosses/eval.jsonl")
    assert config.report.url == SETTINGS.report_url
    assert config_map["data"]["ca.crt"] == "the CA"
    assert job["spec"]["activeDeadlineSeconds"] == 3600
    pod = job["spec"]["template"]
    assert pod["metadata"]["labels"]["cycleops.dev/role"] == "profile"  # so no balancer ever sends it a request
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["containers"][0]["resources"] == hardware().resources.to_dict()
    claims = [v["persistentVolumeClaim"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [{"claimName": "data", "readOnly": True}, {"claimName": "models", "readOnly": True}]


def test_classes_are_measured_one_after_the_other_and_what_serves_first() -> None:
    classes = {"cpu-large": hardware(), "cpu-small": hardware()}
    profiles = (profile("int8"), profile("int8", hardware_class="cpu-large"))
    both = spec(hardware=["cpu-large", "cpu-small"])
    evidence = find_evidence(sources(spec=both, profiles=profiles, classes=classes))
    of = stale(spec=both, evidence=evidence, classes=classes)
    assert run(of).pending == ["cpu-small", "cpu-large"]
    assert [body["metadata"]["name"] for body in measuring_desired(of, settings=SETTINGS)] == [JOB_NAME, JOB_NAME]

    reported = follow(of, profile("int8"))
    done = follow(reported, job="Complete")
    assert run(done).pending == ["cpu-large"]
    names = {body["metadata"]["name"] for body in measuring_desired(done, settings=SETTINGS)}
    assert names == {"supersense-measure-1-cpu-large"}


# What becomes of it


def report(of: CycleProfile) -> ProfileReport:
    """What a pod says: nothing of where it comes from."""
    return ProfileReport(profile=Profile.model_validate(of.spec.model_dump(include=set(Profile.model_fields))))


def delivery(message: Message) -> Delivery:
    return Delivery("pod", "uid", 1, message, None)  # type: ignore[arg-type]  # nobody waits for it


def job_facts(state: str) -> dict[tuple[str, str], Facts]:
    conditions = [{"type": state, "status": "True", "reason": "DeadlineExceeded", "message": "too long"}]
    metadata = {"name": JOB_NAME, "namespace": "demo", "uid": "j", "resourceVersion": "1", "generation": 1}
    metadata["labels"] = {"cycleops.dev/role": "profile"}  # type: ignore[assignment]
    store = Store()
    store.put(JOB, {"metadata": metadata, "spec": {}, "status": {"conditions": conditions if state else []}})
    found = store.get(JOB, namespace="demo", name=JOB_NAME)
    assert found is not None
    return {("Job", JOB_NAME): found}


def follow(of: ServiceObservation, *measured: CycleProfile, job: str = "", failure: str = "") -> ServiceObservation:
    """The next pass, which sees the status of ``of`` and these reports."""
    messages: list[Message] = [report(p) for p in measured]
    if failure:
        messages.append(FailureReport(reason="BadData", message=failure))
    status = CycleServiceStatus.model_validate(new_status(of, decide(of), ()))
    children = {**serving(), **job_facts(job)}
    return replace(of, status=status, children=children, deliveries=tuple(map(delivery, messages)))


def test_a_run_ends_when_every_variant_is_reported_and_its_job_is_complete() -> None:
    both = follow(stale(), profile("fp32"), profile("int8"))
    assert reason(both) == "MeasuringAnew"
    done = follow(both, job="Complete")
    assert run(done).completion_time == NOW
    assert {p.variant for p in run(done).profiles} == {"fp32", "int8"}
    assert measuring_desired(done, settings=SETTINGS) == []
    assert [f.name for f in unwanted_children([], observed=done.children) if f.kind == "Job"] == [JOB_NAME]
    assert reason(follow(replace(done, adapted=adapted(2)))) == "MeasuredAnew"


def test_a_run_whose_job_fails_says_why_and_leaves_the_job_for_its_logs() -> None:
    failed = follow(stale(), job="Failed")
    assert run(failed).failed == [f"cpu-small: Job {JOB_NAME} failed, DeadlineExceeded: too long"]
    assert run(failed).completion_time == NOW
    assert [f.name for f in unwanted_children([], observed=failed.children) if f.kind == "Job"] == []
    again = replace(follow(failed, job="Failed"), now=NOW + timedelta(hours=1))
    assert run(again).run == 2
    gone = unwanted_children(measuring_desired(again, settings=SETTINGS), observed=again.children)
    assert [f.name for f in gone if f.kind == "Job"] == [JOB_NAME]

    said = follow(follow(stale(), failure="no label in line 3"), job="Failed")
    assert run(said).failed == ["cpu-small: BadData: no label in line 3"]
    half = follow(follow(stale(), profile("fp32")), job="Complete")
    assert run(half).failed == ["cpu-small: it ended without reporting int8"]


def test_the_beginning_and_the_end_of_a_run_are_told_once() -> None:
    def told(of: ServiceObservation) -> list[str]:
        after = new_status(of, decide(of), ())
        return [h.reason for h in happenings(of.status.to_dict(), after)]

    assert told(stale(since=10)) == []
    first = stale()
    assert told(first) == ["MeasuringAnew"]
    under_way = follow(first, profile("fp32"), profile("int8"))
    assert told(under_way) == []
    done = follow(under_way, job="Complete")
    after = replace(done, adapted=adapted(2))
    assert told(after) == ["MeasuredAnew"]
    assert told(follow(after)) == []


def test_two_passes_without_news_say_the_same() -> None:
    first = follow(follow(stale()))
    second = follow(first)
    assert second.status == first.status
