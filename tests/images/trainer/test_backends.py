"""The same training over each backend: Horovod over MPI, Horovod over Gloo, torchrun."""

import os
import signal
import subprocess

import pytest

from cycle_server.engine.model import read_weights
from tests.images.trainer.conftest import Ranks
from tests.images.trainer.test_training import newest_rank
from tests.images.trainer.tiny import Workplace

WITHOUT_LAUNCHER = ("Horovod", "Torchrun")
# Sums over ranks come in another order of bits; nothing else differs.
TOLERANCE = 1e-3
EVERY_STEP = "import cycle_trainer.progress\ncycle_trainer.progress.EVERY_SECONDS = 0.0\n"


def test_every_backend_gives_the_same_losses(
    workplace: Workplace, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace.folder / "sitecustomize.py").write_text(EVERY_STEP)  # read by every Python that starts below
    monkeypatch.setenv("PYTHONPATH", str(workplace.folder))
    curves, weights = {}, {}
    for transport, backend in (("MPI", None), *(("Gloo", backend) for backend in WITHOUT_LAUNCHER)):
        workplace.operator.reports.clear()
        workplace.spec["job"]["uid"] = f"{transport}-{backend}"  # checkpoints of its own
        if backend is not None:
            workplace.without_launcher(backend)
        done = ranks()
        assert done.returncode == 0, done.stdout + done.stderr
        (world,) = workplace.operator.messages("World")
        assert (world.size, world.all_reduce_sum, world.transport) == (2, 3.0, transport)
        curves[transport, backend] = [report.loss for report in workplace.operator.messages("Progress")]
        (trained,) = workplace.operator.messages("Trained")
        weights[transport, backend] = read_weights(workplace.output / trained.digest.replace(":", "-"))
    expected, expected_weights = curves.pop(("MPI", None)), weights.pop(("MPI", None))
    assert len(expected) == 40 and expected[-1] < 0.5 * expected[0]
    for key, curve in curves.items():
        assert curve == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE), key
        for name, tensor in weights[key].items():
            assert (tensor - expected_weights[name]).abs().max() < TOLERANCE, (key, name)


@pytest.mark.parametrize("backend", WITHOUT_LAUNCHER)
def test_a_killed_rank_is_the_workers_exit_code_and_the_next_resumes(
    workplace: Workplace, ranks: Ranks, backend: str
) -> None:
    workplace.without_launcher(backend)
    workplace.spec["training"]["maximumSteps"] = 4000
    workplace.write_config()
    first = subprocess.Popen(workplace.ranks_command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    workplace.operator.wait_for("Checkpoint", count=2, seconds=120)
    os.kill(newest_rank(), signal.SIGKILL)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGKILL, output
    saved = workplace.operator.messages("Checkpoint")[-1].step
    workplace.spec["training"]["maximumSteps"] = saved + 20
    done = ranks()
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"resuming after step {saved} " in done.stdout
    assert workplace.operator.messages("Trained")[-1].steps == saved + 20


@pytest.mark.parametrize("backend", WITHOUT_LAUNCHER)
def test_bad_input_is_the_workers_exit_code_too(workplace: Workplace, ranks: Ranks, backend: str) -> None:
    workplace.without_launcher(backend)
    workplace.spec["training"]["globalBatchSize"] = 20
    done = ranks()
    assert done.returncode == 3, done.stdout + done.stderr
    (failure,) = workplace.operator.messages("Failure")
    assert (failure.reason, failure.field) == ("BadBatchSize", "spec.training.globalBatchSize")


@pytest.mark.parametrize("backend", WITHOUT_LAUNCHER)
def test_a_stop_ends_all_ranks(workplace: Workplace, backend: str) -> None:
    workplace.without_launcher(backend)
    workplace.spec["training"]["maximumSteps"] = 4000
    workplace.write_config()
    worker = subprocess.Popen(workplace.ranks_command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    workplace.operator.wait_for("Checkpoint", count=1, seconds=120)
    rank = newest_rank()
    worker.send_signal(signal.SIGTERM)
    output, _ = worker.communicate(timeout=60)
    assert worker.returncode == 128 + signal.SIGTERM, output
    with pytest.raises(ProcessLookupError):
        os.kill(rank, 0)


def test_a_first_worker_that_never_comes_is_named(workplace: Workplace) -> None:
    workplace.without_launcher("Torchrun")
    workplace.spec |= {"launchTimeoutSeconds": 1}
    workplace.spec["world"] |= {"hosts": ["127.0.0.1", "other"], "slotsPerHost": 1}
    workplace.write_config()
    environment = {**os.environ, "JOB_COMPLETION_INDEX": "1"}
    done = subprocess.run(workplace.ranks_command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    (failure,) = workplace.operator.messages("Failure")
    assert failure.reason == "WorkersUnreachable" and "no rendezvous within 1 s at 127.0.0.1:" in failure.message
