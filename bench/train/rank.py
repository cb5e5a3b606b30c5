"""One rank of one loop: python -m bench.train.rank --config FILE --loop NAME

Each line on standard input is a number of steps to train; each answer, a line of JSON on standard output, says what
they took. The world's ranks and its place are in the environment, as torchrun or Horovod set it.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch

from bench.train.loops import LOOPS, Setting
from cycle_trainer.plan import StepPlan
from cycle_trainer.progress import Step
from cycle_trainer.tasks import task_of
from cycle_wire.training import TrainingConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--loop", choices=LOOPS, required=True)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print is no answer
    torch.set_num_threads(1)
    config = TrainingConfig.model_validate_json(options.config.read_text(encoding="utf-8"))
    torch.manual_seed(config.training.seed)
    task = task_of(config)
    setting = Setting(
        config=config,
        task=task,
        plan=StepPlan.of(config.training, rows=len(task.lengths)),
        rank=int(os.environ.get("RANK") or os.environ["HOROVOD_RANK"]),
        size=int(os.environ.get("WORLD_SIZE") or os.environ["HOROVOD_SIZE"]),
    )
    assert not setting.plan.repeats_rows  # our loop would leave dropout on, and the others not
    loop = LOOPS[options.loop](setting)
    for line in sys.stdin:
        began, cpu, main_thread = time.perf_counter(), time.process_time(), time.thread_time()
        done = [next(loop) for _ in range(int(line))]
        seconds = time.perf_counter() - began
        told = [step for step in done if isinstance(step, Step)]
        answer = {
            "seconds": seconds,
            "otherThreadsSeconds": time.process_time() - cpu - (time.thread_time() - main_thread),
            "preSeconds": sum(step.pre_seconds for step in told),
            "allReduceSeconds": sum(step.all_reduce_seconds for step in told),
        }
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # the others of this world may be gone already


if __name__ == "__main__":
    main()
