"""One picture per trace: the rate, and the replicas that each policy ordered."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np

from bench.planner.loop import Run
from bench.planner.service import TICK_SECONDS, Played
from bench.planner.traces import STEP_SECONDS

mpl.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - the backend comes first


def plot(played: Played, runs: Mapping[str, Run], path: Path) -> None:
    trace = played.trace
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(11, 6), sharex=True, height_ratios=(1, 2))
    top.plot(np.arange(len(trace.rate)) * STEP_SECONDS / 3600, trace.rate, color="black", linewidth=0.8)
    top.set_ylabel("requests/s")
    top.set_title(f"{trace.name} (first held-out draw)")
    top.set_ylim(bottom=0)
    for name, run in runs.items():
        hours = np.arange(len(run.replicas)) * TICK_SECONDS / 3600
        label = f"{name}: {run.attainment:.2%} within budget, {run.replica_hours:.1f} replica-hours"
        bottom.step(hours, run.replicas, where="post", label=label, linewidth=1.8 if name == "cycleops" else 1.0)
    bottom.set_ylabel("replicas ordered")
    bottom.set_xlabel("hours")
    bottom.set_ylim(bottom=0)
    bottom.legend(loc="upper right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
