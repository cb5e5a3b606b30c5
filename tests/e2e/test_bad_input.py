"""Bad input on a real cluster: each shows in a condition with a reason and a message that says what to do."""

from collections.abc import Iterator

import pytest

from tests.cluster.kubectl import Kubectl, Object, condition, has_condition
from tests.e2e.manifests import service_for, small_job


@pytest.fixture
def failing(workspace: Kubectl, request: pytest.FixtureRequest) -> Iterator[Object]:
    """The CycleJob of the parameters, applied and waited for until it failed."""
    job = small_job(*request.param[:1], **request.param[1])
    workspace.apply(job)
    name = job["metadata"]["name"]
    yield workspace.wait_for("cyclejob", name, has_condition("Failed", "True"), timeout_seconds=240)
    workspace.delete("cyclejob", name)


BAD_JOBS = [
    pytest.param(
        ("no-model", {"model": {"uri": "pvc://models/does-not-exist"}}),
        "ModelNotFound", ["does-not-exist", "spec.model.uri"], id="a model that does not exist",
    ),
    pytest.param(
        ("no-field", {"data": {"fields": {"label": "category"}}}),
        "BadData", ["category", "spec.data.fields.label", "train.jsonl"], id="a data field that is not in the file",
    ),
    pytest.param(
        ("new-label", {"data": {"evaluation": "pvc://data/faults/unseen-label.jsonl"}}),
        "LabelNotInTraining", ["spec.data", "noun.unseen"], id="a label seen only in evaluation",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("failing", "reason", "words"), BAD_JOBS, indirect=["failing"])
def test_job_fails_and_says_what_to_mend(failing: Object, reason: str, words: list[str]) -> None:
    failed, succeeded = condition(failing, "Failed"), condition(failing, "Succeeded")
    assert failed["reason"] == reason
    assert succeeded["status"] == "False"
    for word in words:
        assert word in failed["message"]


def test_claim_that_does_not_exist_is_named(workspace: Kubectl) -> None:
    job = small_job("no-claim", model={"uri": "pvc://absent/model"})
    workspace.apply(job)
    waiting = workspace.wait_for("cyclejob", "no-claim", has_condition("Admitted", "False", "ClaimNotFound"))
    message = condition(waiting, "Admitted")["message"]
    assert "absent" in message
    assert "spec.model.uri" in message
    workspace.delete("cyclejob", "no-claim")


def test_service_waits_for_a_missing_job(workspace: Kubectl) -> None:
    workspace.apply(service_for("no-job", "absent"))
    waiting = workspace.wait_for("cycleservice", "no-job", has_condition("ModelReady", "False", "JobNotFound"))
    assert "absent" in condition(waiting, "ModelReady")["message"]
    assert condition(waiting, "Ready")["status"] != "True"
    workspace.delete("cycleservice", "no-job")
