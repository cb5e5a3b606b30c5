"""Steps of a CycleJob's life, for tables: each is done to a job's world, and fails if what it expects does not come."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.api.job_world import JobWorld
from tests.api.operator_process import wait_until
from tests.api.reports import baselines, profile, trained, variants, world

Step = Callable[[JobWorld], Any]


def expect(type: str, status: str, reason: str, words: str = "", seconds: float = 10.0) -> Step:
    return lambda w: w.expect(type, status, reason, words=words, seconds=seconds)


def report(role: str, *messages: Any) -> Step:
    return lambda w: w.report(role, *messages)


def end(role: str, exit_code: int = 0) -> Step:
    return lambda w: w.end(role, exit_code=exit_code)


def jobs(*names: str) -> Step:
    return lambda w: w.expect_jobs(*names)


def change(**spec: Any) -> Step:
    return lambda w: w.change(**spec)


def progress_at(step: int) -> Step:
    return lambda w: wait_until(lambda: w.status().get("progress", {}).get("step") == step, what=f"progress at {step}")


def start_workers(w: JobWorld) -> None:
    w.run("worker", 2)
    w.expect("Succeeded", "Unknown", "Starting", words="2 of 2 workers are ready")


def end_first_worker(w: JobWorld) -> None:
    w.end("worker", exit_code=0, only="demo-worker-0-")


def evict_first_worker(w: JobWorld) -> None:
    """As a drained node's pods are; remembers whom."""
    w.remembered = w.evict(w.wait_for_pods("worker", 2)[0])


def first_worker_replaced(w: JobWorld) -> None:
    wait_until(lambda: w.remembered not in {pod["metadata"]["uid"] for pod in w.wait_for_pods("worker", 2)})


def check_children(w: JobWorld, *names: str) -> None:
    assert w.children() == set(names)


def gone(w: JobWorld) -> None:
    wait_until(lambda: w.job() is None, what="the CycleJob is deleted")


def profiles_outlive(w: JobWorld) -> None:
    items = w.client.get(w.path("apis/cycleops.dev/v1alpha1", "cycleprofiles")).json()["items"]
    assert sorted(i["spec"]["variant"] for i in items) == ["bf16", "fp32"]
    assert not any("ownerReferences" in i["metadata"] for i in items)


def remember_launcher(w: JobWorld) -> None:
    w.remembered = w.jobs()["launcher"]["metadata"]["uid"]


def another_launcher(w: JobWorld) -> None:
    def there() -> bool:
        launcher = w.jobs().get("launcher")
        return launcher is not None and launcher["metadata"]["uid"] != w.remembered

    wait_until(there, what="the launcher is a new Job")


def old_workers_first(w: JobWorld) -> None:
    """While a worker of the attempt before still ends, its host name is nobody else's."""
    held = w.held
    assert held is not None
    job, before = w.jobs()["worker"], held["metadata"]["ownerReferences"][0]["uid"]
    assert job["metadata"]["uid"] == before and "deletionTimestamp" in job["metadata"]
    w.release()
    wait_until(lambda: w.jobs().get("worker", job)["metadata"]["uid"] != before, what="new workers")


@dataclass(frozen=True)
class Case:
    steps: list[Step]
    spec: dict[str, Any] = field(default_factory=dict)

    def run(self, world: JobWorld) -> None:
        world.create(**self.spec)
        for step in self.steps:
            step(world)


TRAINED: list[Step] = [start_workers, report("worker", world(), trained()), end("launcher")]
COMPRESSED: list[Step] = [*TRAINED, report("compress", baselines(), variants("fp32", "bf16")), end("compress")]
PROFILED: list[Step] = [*COMPRESSED, report("profile", profile("fp32"), profile("bf16")), end("profile")]
