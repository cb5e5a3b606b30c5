"""The load of the demo: a Job in the cluster that sends Poisson arrivals through the balancer."""

import json
import time
from typing import Any

from demo.install import job_is_over, place, render
from demo.narrator import Narrator
from demo.watch import DemoError
from tests.cluster.kubectl import Kubectl

Object = dict[str, Any]


def run(*, kubectl: Kubectl, service: Object, image: str, duration_seconds: int, narrator: Narrator) -> Object:
    """Send the declared traffic for so long; the load generator's report.

    Raises:
        DemoError: when the load generator fails.
    """
    spec = service["spec"]
    tokens = spec["traffic"]["inputTokens"]
    manifest = render(
        "load.yaml", server=image, url=service["status"]["url"], model=service["metadata"]["name"],
        rate=str(spec["traffic"]["requestsPerSecond"]), duration=str(duration_seconds),
        tokens=f"{tokens['p50']},{tokens['p99']}",
    )  # fmt: skip
    kubectl.delete("job", "demo-load")
    place(kubectl, manifest, kubectl.namespace)
    # On two cores every poll from here would be seen in the tail that is measured: nothing is asked meanwhile.
    narrator.show(f"Load: nothing else is done for {duration_seconds} s")
    time.sleep(duration_seconds)
    job = kubectl.wait_for("job", "demo-load", job_is_over, timeout_seconds=240)
    output = kubectl.logs("job/demo-load")
    if not job["status"].get("succeeded"):
        raise DemoError(f"the load generator failed:\n{output[-3000:]}")
    return _report_in(output)


def _report_in(output: str) -> Object:
    """The JSON object among the lines of the log."""
    for line in output.splitlines():
        if line.startswith("{"):
            report: Object = json.loads(line)
            return report
    raise DemoError(f"no report in the load generator's log:\n{output[-3000:]}")
