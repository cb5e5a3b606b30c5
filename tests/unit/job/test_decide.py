"""The chain of policies: an observation of each kind, and what is decided."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycleops.api.conditions import JobCondition, set_condition
from cycleops.api.cyclejob_status import CycleJobStatus, FailureStatus
from cycleops.api.reasons import Reason
from cycleops.job.decide import CHAIN, decide
from cycleops.job.decision import Step
from cycleops.job.observation import Observation
from tests.unit.job.make import NOW, VARIANTS, WORLD, child, ended, evidence, observe, trained_report, world_report

FAILED = FailureStatus(reason="BadData", message="no field gloss", field="spec.data.fields.text", pod="p")
LAUNCHER = ended("launcher")
COMPRESS = ended("compress")
PROFILE = ended("profile-cpu-small")
ALL = evidence("world", "model", "variants", "profiles")


def over(status: bool, reason: str) -> CycleJobStatus:
    conditions = set_condition(
        [], type=JobCondition.SUCCEEDED, status=status, reason=reason, message="as it was", generation=1, now=NOW
    )
    return CycleJobStatus(conditions=conditions)


CASES: dict[str, tuple[Observation, Step, str, str]] = {
    "fresh": (observe(), Step.TRAIN, Reason.STARTING, "0 of 2 workers are ready"),
    "workers ready": (observe(child("worker", ready=2)), Step.TRAIN, Reason.STARTING, "2 of 2 workers are ready"),
    "slow pods": (observe(pod_notes=("pod x: ErrImagePull",)), Step.TRAIN, Reason.STARTING, "; pod x: ErrImagePull"),
    "world": (observe(reports=(world_report(),)), Step.TRAIN, Reason.TRAINING, "2 workers train"),
    "world too small": (
        observe(reports=(world_report(1, hosts=("supersense-worker-0",)),)), Step.FAIL, Reason.WORLD_MISMATCH,
        "rank 0 found a world of 1 ranks on supersense-worker-0, but spec.workers asks for 2 workers x 1 ranks = 2"),
    "world on one host": (
        observe(reports=(world_report(2, hosts=("supersense-worker-0",)),)), Step.FAIL, Reason.WORLD_MISMATCH,
        "rank 0 found ranks on supersense-worker-0"),
    "wrong sum": (observe(reports=(world_report(total=1.0),)), Step.FAIL, Reason.WORLD_MISMATCH, "transport is broken"),
    "wrong world of an operator before": (
        observe(LAUNCHER, status=CycleJobStatus(world=WORLD.model_copy(update={"size": 1}))), Step.FAIL,
        Reason.WORLD_MISMATCH, "1 ranks"),
    "names with domains": (
        observe(reports=(world_report(hosts=("supersense-worker-0.supersense-workers.ns", "supersense-worker-1")),)),
        Step.TRAIN, Reason.TRAINING, ""),
    "no world": (observe(LAUNCHER, reports=(trained_report(),)), Step.FAIL, Reason.WORLD_NOT_REPORTED, "exited 0"),
    "no model": (observe(LAUNCHER, status=evidence("world")), Step.FAIL, Reason.MODEL_NOT_REPORTED, "exited 0"),
    "launcher still runs": (
        observe(child("launcher", active=1), status=evidence("world", "model")), Step.TRAIN, Reason.TRAINING, ""),
    "bad input": (
        observe(ended("launcher", failed="PodFailurePolicy"), status=CycleJobStatus(failure=FAILED)), Step.FAIL,
        "BadData", "spec.data.fields.text: no field gloss"),
    "a failure that may be retried": (
        observe(child("launcher", active=1, failed=1), status=CycleJobStatus(failure=FAILED)), Step.TRAIN,
        Reason.RESTARTING, "failed once (2 restarts allowed): no field gloss; it goes on from the start"),
    "too many failures": (
        observe(ended("launcher", failed="BackoffLimitExceeded", failures=3), status=CycleJobStatus(failure=FAILED)),
        Step.FAIL, Reason.BACKOFF_LIMIT_EXCEEDED, "training failed 3 times, with 2 restarts allowed; the last"),
    "failure that nobody explains": (
        observe(ended("launcher", failed="PodFailurePolicy")), Step.FAIL, Reason.LAUNCHER_FAILED, "its message"),
    "suspended": (observe(spec={"suspend": True}), Step.SUSPEND, Reason.SUSPENDED, "spec.suspend is true"),
    "suspended in a wrong world": (
        observe(spec={"suspend": True}, reports=(world_report(total=0.0),)), Step.FAIL, Reason.WORLD_MISMATCH, ""),
    "no class": (
        observe(spec={"workers": {"hardware": "none"}}), Step.WAIT, Reason.HARDWARE_CLASS_NOT_FOUND,
        "spec.workers.hardware: there is no HardwareClass none"),
    "no class to profile on": (
        observe(spec={"profile": {"hardware": ["cpu-small", "none"]}}), Step.WAIT, Reason.HARDWARE_CLASS_NOT_FOUND,
        "spec.profile.hardware: there is no HardwareClass none"),
    "no claim": (
        observe(claims={"models": (), "data": None}), Step.WAIT, Reason.CLAIM_NOT_FOUND,
        "spec.data.train: there is no PersistentVolumeClaim data in namespace ns"),
    "uneven batches": (
        observe(spec={"workers": {"replicas": 3}}), Step.FAIL, Reason.BAD_CONFIGURATION,
        "spec.training.globalBatchSize 64 is not a multiple of spec.training.microBatchSize 16 x world size 3"),
    "ranks per accelerator": (
        observe(spec={"workers": {"hardware": "gpu-l4", "replicas": 8}}), Step.FAIL, Reason.BAD_CONFIGURATION,
        "world size 8"),
    "compress": (observe(LAUNCHER, status=evidence("world", "model")), Step.COMPRESS, Reason.COMPRESSING, "4 variants"),
    "compression bad input": (
        observe(LAUNCHER, ended("compress", failed="PodFailurePolicy"),
                status=evidence("world", "model").model_copy(update={"failure": FAILED})),
        Step.FAIL, "BadData", "no field gloss"),
    "compression silent": (
        observe(LAUNCHER, COMPRESS, status=evidence("world", "model")), Step.FAIL, Reason.COMPRESSION_FAILED,
        "pruned30"),
    "compression still runs": (
        observe(LAUNCHER, child("compress", active=1), status=evidence("world", "model", "variants")), Step.COMPRESS,
        Reason.COMPRESSING, ""),
    "profile": (
        observe(LAUNCHER, COMPRESS, status=evidence("world", "model", "variants")), Step.PROFILE, Reason.PROFILING,
        "4 variants are being measured on cpu-small"),
    "profile silent": (
        observe(LAUNCHER, COMPRESS, PROFILE, status=evidence("world", "model", "variants")), Step.FAIL,
        Reason.PROFILING_FAILED, "profiling on cpu-small ended without reporting the variants fp32"),
    "profile failed": (
        observe(LAUNCHER, COMPRESS, ended("profile-cpu-small", failed="BackoffLimitExceeded", failures=3),
                status=evidence("world", "model", "variants")),
        Step.FAIL, Reason.BACKOFF_LIMIT_EXCEEDED, "profiling on cpu-small failed 3 times"),
    "finished": (observe(LAUNCHER, COMPRESS, PROFILE, status=ALL), Step.SUCCEED, Reason.FINISHED, "4 variants made"),
    "finished, Jobs deleted by someone": (observe(status=ALL), Step.SUCCEED, Reason.FINISHED, ""),
    "stays failed": (observe(status=over(False, "BadData")), Step.FAIL, "BadData", "as it was"),
    "stays succeeded": (
        observe(status=over(True, "Finished"), spec={"suspend": True}), Step.SUCCEED, "Finished", "as it was"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_decision(name: str) -> None:
    observation, step, reason, words = CASES[name]
    decision = decide(observation)
    assert (decision.step, str(decision.reason)) == (step, str(reason)), decision
    assert words in decision.message


@pytest.mark.parametrize(
    ("age_seconds", "suspend", "step"),
    [(3599, False, Step.TRAIN), (3601, False, Step.FAIL), (3601, True, Step.SUSPEND)],
)
def test_the_deadline_counts_from_the_first_pods_and_not_while_suspended(
    age_seconds: int, suspend: bool, step: Step
) -> None:
    status = CycleJobStatus(start_time=NOW - dt.timedelta(seconds=age_seconds))
    decision = decide(observe(status=status, spec={"suspend": suspend}))
    assert decision.step is step
    assert (decision.reason == Reason.DEADLINE_EXCEEDED) == (step is Step.FAIL)


CHILDREN = [
    *(child(n, active=1) for n in ("worker", "launcher", "compress", "profile-cpu-small")),
    *(ended(n) for n in ("launcher", "compress", "profile-cpu-small")),
    *(ended(n, failed="BackoffLimitExceeded", failures=3) for n in ("launcher", "compress", "profile-cpu-small")),
]
PARTS = ("world", "model", "variants", "profiles")


@given(
    children=st.lists(st.sampled_from(CHILDREN), unique_by=lambda f: f.name),
    parts=st.sets(st.sampled_from(PARTS)),
    suspend=st.booleans(),
)
def test_the_chain_always_answers_and_success_needs_every_proof(
    children: list[Any], parts: set[str], suspend: bool
) -> None:
    observation = observe(*children, status=evidence(*parts), spec={"suspend": suspend})
    decision = decide(observation)
    assert decision.reason and decision.message
    if decision.step is Step.SUCCEED:
        assert parts == set(PARTS)
        assert not suspend
    if decision.step in (Step.COMPRESS, Step.PROFILE):
        assert {"world", "model"} <= parts
    assert decide(observation) == decision


def test_every_policy_says_in_one_plain_line_what_it_does() -> None:
    for policy in CHAIN:
        assert policy.__doc__ is not None
        assert policy.__doc__.strip().count("\n") == 0
    assert len(VARIANTS) == 4
