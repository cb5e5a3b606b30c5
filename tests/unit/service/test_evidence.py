"""What a service may be planned from, and what it says when it may not."""

from typing import Any

import pytest

from cycleops.api.reasons import Reason
from cycleops.service.evidence import find_evidence
from tests.unit.service.make import DIGEST, MODEL, hardware, job, profile, sources, spec

UNFINISHED = job(("Succeeded", "Unknown", "Training", "step 120 of 300"))
FAILED = job(("Succeeded", "False", "DataNotFound", "pvc://data/wordnet/train.jsonl is not there"))


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"job": None}, Reason.JOB_NOT_FOUND, "CycleJob supersense does not exist in this namespace: create it"),
        ({"job": job()}, Reason.JOB_NOT_FINISHED, "waits for CycleJob supersense, which has not started"),
        ({"job": UNFINISHED}, Reason.JOB_NOT_FINISHED, "which is at Training: step 120 of 300"),
        ({"job": FAILED}, Reason.JOB_FAILED, "failed with DataNotFound: pvc://data/wordnet/train.jsonl is not there"),
        ({"profiles": ()}, Reason.NO_PROFILES, "measured nowhere, and spec.hardware is cpu-small"),
        (
            {"profiles": (profile("fp32", hardware_class="gpu-l4"),)},
            Reason.NO_PROFILES,
            "measured only on gpu-l4",
        ),
        ({"classes": {}}, Reason.HARDWARE_CLASS_NOT_FOUND, "no HardwareClass cpu-small: create it"),
        ({"classes": {"cpu-small": hardware(threads=4)}}, Reason.PROFILES_OUTDATED, "cpu-small changed since"),
        (
            {"spec": spec(model={"uri": "pvc://models/../x", "digest": DIGEST})},
            Reason.BAD_URI,
            "spec.model.uri",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(changes: dict[str, Any], reason: Reason, words: str) -> None:
    evidence = find_evidence(sources(**changes))
    assert evidence.finding.status is False
    assert evidence.finding.reason is reason
    assert words in evidence.finding.message
    assert evidence.profiles == ()


def test_a_finished_job_gives_model_and_profiles() -> None:
    evidence = find_evidence(sources())
    assert evidence.ready
    assert evidence.model == MODEL
    assert [p.spec.variant for p in evidence.profiles] == ["fp32", "int8"]
    assert "fp32, int8 measured on cpu-small" in evidence.finding.message


def test_uri_and_digest_need_no_job() -> None:
    evidence = find_evidence(sources(spec=spec(model={"uri": MODEL.uri, "digest": MODEL.digest}), job=None))
    assert (evidence.ready, evidence.model) == (True, MODEL)


def test_a_job_that_is_gone_leaves_its_evidence() -> None:
    assert find_evidence(sources(job=None, pinned=MODEL)).model == MODEL
    other = spec(model={"cycleJob": "another"})
    assert find_evidence(sources(spec=other, job=None, pinned=MODEL)).finding.reason is Reason.JOB_NOT_FOUND


def test_profiles_of_other_models_and_outdated_classes_are_left_out() -> None:
    stranger = profile("fp32", model_digest="sha256:" + "b2" * 32)
    outdated = profile("int8", hardware_class_hash="0" * 16)
    evidence = find_evidence(sources(profiles=(stranger, outdated, profile("bf16"))))
    assert [p.spec.variant for p in evidence.profiles] == ["bf16"]


def test_of_two_measurements_the_one_with_the_image_that_serves_wins() -> None:
    measured = profile("fp32", server_settings_hash="s1")
    newer_of_old_image = profile("fp32", server_settings_hash="s2", image="cycleops/server:0")
    evidence = find_evidence(sources(profiles=(newer_of_old_image, measured)))
    assert [p.metadata.name for p in evidence.profiles] == [measured.metadata.name]
