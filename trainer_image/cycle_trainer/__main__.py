"""``python -m cycle_trainer`` is ``cycle-trainer``."""

from cycle_trainer.cli import main

main()
