"""The commands of the trainer image. Exit codes: 0 done, 3 bad input (trying again can't help), else a failure."""

import argparse
import logging
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from cycle_trainer.failures import BadInputError, write_termination_message
from cycle_wire.reports import EXIT_BAD_INPUT
from cycle_wire.training import TrainingConfig

logger = logging.getLogger("cycle_trainer")

CONFIG = Path("/etc/cycleops/config.json")
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "HOROVOD_RANK", "RANK")  # of mpirun, the command ranks, torchrun
COMMANDS = {
    "worker": "serve ssh for mpirun, until stopped",
    "launch": "wait for the workers, then run mpirun",
    "ranks": "run this worker's ranks, which meet the others at the first worker (no launcher, no ssh)",
    "train": "be one rank (mpirun, torchrun or the command ranks starts this)",
    "compress": "measure baselines and write the variants of a trained model",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="cycle-trainer", description=__doc__)
    parser.add_argument("command", choices=COMMANDS, help="; ".join(f"{c}: {text}" for c, text in COMMANDS.items()))
    parser.add_argument("--config", type=Path, default=CONFIG, help=f"default {CONFIG}")
    arguments = parser.parse_args()
    rank = next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), None)
    logging.basicConfig(
        format=f"%(asctime)s {f'rank {rank} ' if rank else ''}%(levelname)s %(message)s",
        level=logging.INFO if rank in (None, "0") else logging.WARNING,
        stream=sys.stdout,
    )
    sys.exit(execute(arguments.command, config_path=arguments.config))


def execute(command: str, *, config_path: Path) -> int:
    """Run a command; its exit code. Says why it failed in the log and the termination message."""
    try:
        config = TrainingConfig.model_validate_json(config_path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        logger.error("%s: %s", config_path, error)
        write_termination_message(f"BadConfiguration: {config_path}: {error}")
        return EXIT_BAD_INPUT
    try:
        return _run(command, config, config_path=config_path)
    except BadInputError as failure:
        logger.error("%s", failure)
        write_termination_message(str(failure))
        return EXIT_BAD_INPUT
    except Exception as error:  # noqa: BLE001  the last place that can say what happened
        logger.exception("%s failed", command)
        write_termination_message(f"{type(error).__name__}: {error}")
        if command == "train":
            from cycle_trainer.train import end_all_ranks

            end_all_ranks()
        return 1


def _run(command: str, config: TrainingConfig, *, config_path: Path) -> int:
    # Only what a command needs is imported: torch takes seconds, and a worker needs none of it.
    if command == "worker":
        from cycle_trainer import worker

        return worker.run(config)
    if command == "launch":
        from cycle_trainer import launch

        return launch.run(config, config_path=config_path)
    if command == "ranks":
        from cycle_trainer import ranks

        return ranks.run(config, config_path=config_path)
    if command == "train":
        from cycle_trainer import train

        train.run(config)
        return 0
    # Threads that wait for each other sleep instead of spinning; the OpenMP library reads this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from cycle_trainer import compress

    compress.run(config)
    return 0
