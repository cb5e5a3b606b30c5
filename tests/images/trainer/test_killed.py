"""A training that is killed at 20 random moments ends as one that nobody disturbs."""

import os
import subprocess
import sys

import pytest

from tests.images.trainer.tiny import Workplace, rows_of, write_rows

KILLS, STEPS = 20, 600
# What takes long is loaded once; each attempt is a fork of that. It is killed a random time after it has saved a
# checkpoint that was not there before, so that every attempt gets somewhere: while it computes, or saves the next.
ATTEMPTS = """
import os, random, signal, sys, time
from pathlib import Path

import torch

torch.set_num_threads(1)
import cycle_trainer.progress
from cycle_trainer import train
from cycle_wire.training import TrainingConfig

cycle_trainer.progress.EVERY_SECONDS = 0.0
config = TrainingConfig.model_validate_json(Path(sys.argv[1]).read_text())
kills, dice = int(sys.argv[2]), random.Random(7)


def attempt():
    pid = os.fork()
    if pid == 0:
        try:
            train.run(config)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def newest():
    return max((path.name for path in train.checkpoint_folder(config).glob("step-*")), default="")


for _ in range(kills):
    before, pid = newest(), attempt()
    while newest() == before and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(dice.uniform(0.0, 0.05))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    print("killed after", newest(), flush=True)
    assert os.WIFSIGNALED(status), status
_, status = os.waitpid(attempt(), 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def train(workplace: Workplace, *, kills: int) -> list[tuple[int, float]]:
    """(step, loss) of every report, in the order of arrival."""
    workplace.operator.reports.clear()
    workplace.spec["job"]["uid"] = f"killed-{kills}-times"
    workplace.write_config()
    alone = {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(workplace.spec["rendezvousPort"]),
    }
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, str(workplace.config_path), str(kills)],
        env={**os.environ, **alone}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed after") == kills
    return [(report.step, report.loss) for report in workplace.operator.messages("Progress")]


def test_a_training_killed_at_random_moments_ends_as_an_undisturbed_one(workplace: Workplace) -> None:
    workplace.without_launcher("Torchrun")
    workplace.spec["world"]["slotsPerHost"] = 1
    workplace.spec["training"] |= {"maximumSteps": STEPS, "microBatchSize": 16}
    workplace.spec["checkpoint"] = {"everySteps": 5, "keep": 2}
    write_rows(workplace.folder / "train.jsonl", list(rows_of(16 * STEPS)))  # each seen once: no dropout
    expected = dict(train(workplace, kills=0))
    digest = workplace.operator.messages("Trained")[0].digest
    # A report that waits is replaced by the next one, so on a busy machine a few are never sent.
    assert STEPS in expected and len(expected) > 0.8 * STEPS
    found = train(workplace, kills=KILLS)
    (trained,) = workplace.operator.messages("Trained")
    assert (trained.steps, trained.digest) == (STEPS, digest)
    assert len(workplace.operator.messages("World")) == KILLS + 1
    # The same rows at the same step, whichever attempt it was; a kill may take a report with it.
    both = [(step, loss) for step, loss in found if step in expected]
    assert STEPS in dict(found) and len(dict(both)) > 0.6 * STEPS
    for step, loss in both:
        assert loss == pytest.approx(expected[step], abs=1e-4), step
