"""CycleJobs that tests run to their end."""

from tests.cluster.kubectl import Kubectl, Object, condition

PATIENCE_SECONDS = 600


def succeeded(workspace: Kubectl, job: Object) -> Object:
    """The CycleJob after all its stages. Fails at once, with what the job says, when the job fails."""
    workspace.apply(job)
    for seen in workspace.poll("cyclejob", job["metadata"]["name"], timeout_seconds=PATIENCE_SECONDS):
        if condition(seen, "Succeeded")["status"] in ("True", "False"):
            break
    assert condition(seen, "Succeeded")["status"] == "True", condition(seen, "Failed")
    return seen
