"""Two ranks train through real MPI: reports, the saved model, checkpoints, resuming, and giving up."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from cycle_server.engine.model import load, read_labels, read_weights
from cycle_trainer.collective import Alone
from cycle_trainer.files import digest_of
from cycle_trainer.loop import steps
from cycle_trainer.optimizer import make_optimizer
from cycle_trainer.plan import StepPlan
from cycle_trainer.tasks import task_of
from cycle_wire.parts import Precision
from tests.images.trainer.conftest import SSH_PORT, Ranks
from tests.images.trainer.tiny import LABELS, Workplace, rows_of, write_rows

STATE = "state.safetensors"


def test_two_ranks_train_a_model_and_say_so(workplace: Workplace, ranks: Ranks) -> None:
    done = ranks()
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = [report.message.kind for report in workplace.operator.reports]
    assert kinds[0] == "World" and kinds[-1] == "Trained" and kinds.count("Checkpoint") == 4
    (world,) = workplace.operator.messages("World")
    assert (world.size, world.all_reduce_sum, world.transport) == (2, 3.0, "MPI")
    assert (world.hosts, world.ranks_per_host, world.devices) == (workplace.spec["world"]["hosts"], [2], ["cpu"] * 2)
    last = workplace.operator.messages("Progress")[-1]
    assert (last.step, last.total_steps) == (40, 40) and last.compute_seconds > 0
    (trained,) = workplace.operator.messages("Trained")
    folder = workplace.output / trained.digest.replace(":", "-")
    assert trained.uri == f"pvc://models/tiny/{folder.name}"
    assert (trained.steps, trained.labels, trained.train_rows) == (40, len(LABELS), 400)
    assert digest_of(folder / "model.safetensors") == trained.digest
    assert read_labels(folder) == LABELS
    assert {"config.json", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert len(list(workplace.checkpoints.glob("step-*"))) == 2
    assert not list(workplace.output.rglob(".part-*"))
    config = workplace.write_config()
    task = task_of(config)
    model = load(folder, classes=len(LABELS))
    batch = task.batch(range(100))
    assert float((model(**batch.inputs).argmax(dim=1) == batch.targets).float().mean()) > 0.9


def test_two_ranks_compute_what_one_process_does(workplace: Workplace, ranks: Ranks) -> None:
    """Averaging over ranks and accumulation come out as one big batch; rows seen once, so no dropout."""
    write_rows(workplace.folder / "train.jsonl", list(rows_of(700)))
    workplace.spec["checkpoint"]["everySteps"] = 1000
    assert ranks().returncode == 0
    trained = workplace.operator.messages("Trained")[0]
    config = workplace.write_config()
    task = task_of(config)
    plan = StepPlan.of(config.training, rows=len(task.lengths))
    assert not plan.repeats_rows
    torch.manual_seed(config.training.seed)
    model = task.pretrained()
    with torch.no_grad():
        task.prepare(model, plan.seen_rows())
    optimizer = make_optimizer(model, head=task.head(model), training=config.training)
    taken = list(
        steps(model=model, task=task, optimizer=optimizer, plan=plan, training=config.training, collective=Alone())
    )
    weights = read_weights(workplace.output / trained.digest.replace(":", "-"))
    assert taken[-1].loss < taken[0].loss
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def start_launcher(workplace: Workplace, ssh_key: Path) -> "subprocess.Popen[str]":
    code = (
        "import logging, sys; from pathlib import Path; from cycle_trainer import launch; "
        "from cycle_wire.training import TrainingConfig; path = Path(sys.argv[1]); "
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout); "
        "config = TrainingConfig.model_validate_json(path.read_text()); "
        "sys.exit(launch.run(config, config_path=path, private_key=Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(workplace.config_path), str(ssh_key / "ssh-privatekey")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.usefixtures("worker")
def test_a_killed_rank_fails_the_launch_and_the_next_resumes(workplace: Workplace, ssh_key: Path) -> None:
    workplace.spec["training"]["maximumSteps"] = 4000
    workplace.spec["sshPort"] = SSH_PORT
    workplace.write_config()
    first = start_launcher(workplace, ssh_key)
    workplace.operator.wait_for("Checkpoint", count=3, seconds=120)
    os.kill(newest_rank(), signal.SIGKILL)
    output, _ = first.communicate(timeout=60)
    assert first.returncode not in (0, 3), output
    assert "mpirun ended with code" in (workplace.folder / "last-words").read_text()
    saved = workplace.operator.messages("Checkpoint")[-1].step
    # The newest checkpoint is damaged on top of that: the one before it is taken, and said so.
    newest = sorted(workplace.checkpoints.glob("step-*"))[-1]
    damaged = bytearray((newest / STATE).read_bytes())
    damaged[-1] ^= 0xFF
    (newest / STATE).write_bytes(damaged)
    workplace.spec["training"]["maximumSteps"] = saved + 20
    workplace.write_config()
    second = start_launcher(workplace, ssh_key)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert f"{newest} is corrupt" in output and f"resuming after step {int(newest.name[5:]) - 10} " in output
    assert workplace.operator.messages("Trained")[-1].steps == saved + 20


def newest_rank() -> int:
    """The process id of a rank; ranks aren't this process's children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[1:4] == [b"-m", b"cycle_trainer", b"train"]:
            found.append(int(folder.name))
    assert found, "no rank runs"
    return max(found)


@pytest.mark.usefixtures("worker")
def test_sshd_takes_the_jobs_key_only(ssh_key: Path, tmp_path: Path) -> None:
    private = tmp_path / "key"
    private.write_bytes((ssh_key / "ssh-privatekey").read_bytes())
    private.chmod(0o600)
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    base = ["ssh", "-p", str(SSH_PORT), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
    base += ["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"]
    done = subprocess.run(
        [*base, "-i", str(private), "localhost", "id -u"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(os.getuid())), done.stderr
    refused = subprocess.run([*base, "-i", str(other), "localhost", "id"], capture_output=True, text=True, check=False)
    assert refused.returncode == 255 and "Permission denied" in refused.stderr


def test_a_world_that_differs_from_the_spec_fails(workplace: Workplace, ranks: Ranks) -> None:
    done = ranks(slots=1)
    assert done.returncode == 3, done.stdout + done.stderr
    assert workplace.operator.messages("World")[0].size == 1
    (failure,) = workplace.operator.messages("Failure")
    assert (failure.reason, failure.field) == ("WorldMismatch", "spec.workers")
    assert "ranks 2" in failure.message and "found 1" in failure.message
    assert not workplace.output.exists()


BAD_INPUTS = {
    "model": ("ModelNotFound", "spec.model.uri", "there is no folder"),
    "weights": ("ModelUnreadable", "spec.model.uri", "can't be loaded"),
    "family": ("ModelUnsupported", "spec.model.uri", "gpt2"),
    "field": ("BadData", "spec.data.fields.label", "line 17: there is no field 'label'"),
    "label": ("LabelNotInTraining", "spec.data.fields.label", "label 'mineral' is not in the training data"),
    "file": ("DataNotFound", "spec.data.train", "there is no file"),
    "batch": ("BadBatchSize", "spec.training.globalBatchSize", "not a multiple"),
    "length": ("BadSequenceLength", "spec.training.maximumSequenceLength", "at most 32 tokens"),
    "rate": ("LossNotFinite", "spec.training.learningRate", "lower learningRate"),
}


def spoil(workplace: Workplace, what: str) -> None:
    folder, rows = workplace.folder, rows_of(100)
    if what == "model":
        workplace.spec["modelPath"] = str(folder / "nowhere")
    elif what == "weights":
        (folder / "model" / "model.safetensors").write_bytes(b"no weights")
    elif what == "family":
        config = json.loads((folder / "model" / "config.json").read_text())
        (folder / "model" / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    elif what == "field":
        del rows[16]["label"]
        write_rows(folder / "train.jsonl", list(rows))
    elif what == "label":
        write_rows(folder / "evaluation.jsonl", [*rows, {"text": "word1", "label": "mineral"}])
    elif what == "file":
        (folder / "train.jsonl").unlink()
    elif what == "batch":
        workplace.spec["training"]["globalBatchSize"] = 20
    elif what == "length":
        workplace.spec["training"]["maximumSequenceLength"] = 64
    elif what == "rate":
        workplace.spec["training"] |= {"learningRate": "1e30", "warmupRatio": "0"}


@pytest.mark.parametrize("what", BAD_INPUTS)
def test_bad_input_ends_both_ranks_with_3_and_one_report(workplace: Workplace, ranks: Ranks, what: str) -> None:
    spoil(workplace, what)
    began = time.monotonic()
    done = ranks()
    assert done.returncode == 3, done.stdout + done.stderr
    assert time.monotonic() - began < 100
    (failure,) = workplace.operator.messages("Failure")
    reason, field, words = BAD_INPUTS[what]
    assert (failure.reason, failure.field) == (reason, field)
    assert words in failure.message
    assert reason in (workplace.folder / "last-words").read_text()
    assert not workplace.operator.messages("Trained")


SHARED_MEMORY = Path("/dev/shm")  # a file system of 64 MiB, which can be filled


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OMPI_MCA_btl_vader_backing_directory", "/tmp")  # what is full must not be MPI's
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        yield Path(folder)


def test_a_full_disk_is_said_and_loses_no_checkpoint(workplace: Workplace, ranks: Ranks, small_disk: Path) -> None:
    workplace.output = small_disk / "output"
    workplace.spec |= {"outputPath": str(workplace.output), "outputUri": "pvc://models/tiny"}
    workplace.spec["training"]["maximumSteps"] = 100_000
    filler = small_disk / "filler"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ranks)
        workplace.operator.wait_for("Checkpoint", count=2, seconds=120)
        fill(filler)
        done = running.result(timeout=120)
    assert done.returncode not in (0, 3), done.stdout + done.stderr
    assert workplace.operator.messages("Failure"), done.stdout + done.stderr
    (failure,) = workplace.operator.messages("Failure")
    assert (failure.reason, failure.field) == ("NoSpaceLeft", "spec.output.uri")
    assert "pvc://models/tiny has no space left" in failure.message
    saved = workplace.operator.messages("Checkpoint")[-1].step
    assert not list(workplace.output.rglob(".part-*"))
    filler.unlink()
    workplace.spec["training"]["maximumSteps"] = saved + 10
    again = ranks()
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"resuming after step {saved} " in again.stdout + again.stderr


def fill(path: Path) -> None:
    """Until the file system has no room for another byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)


def test_bfloat16_trains_too(workplace: Workplace, ranks: Ranks) -> None:
    workplace.spec["training"]["precision"] = Precision.BFLOAT16.value
    done = ranks()
    assert done.returncode == 0, done.stdout + done.stderr
    (trained,) = workplace.operator.messages("Trained")
    weights = read_weights(workplace.output / trained.digest.replace(":", "-"))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert trained.final_loss < 0.5
