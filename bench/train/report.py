"""Ratios with their intervals, the table, the targets and train.json. Pure.

Worlds take turns, so a round gives a ratio of two neighbours in time; told is the geometric mean over rounds with
its 95 % interval by bootstrap over the rounds (fixed seed).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from bench.train.worlds import Block

DDP_TARGET, EFFICIENCY_TARGET, PRE_TARGET = 0.98, 0.90, 0.05
CONFIDENCE, RESAMPLED = 0.95, 2000


@dataclass(frozen=True)
class Ratio:
    """With the ends of its interval."""

    middle: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.middle:.3f} ({self.lower:.3f} to {self.upper:.3f})"


@dataclass(frozen=True)
class Cell:
    """One loop in one scenario: a block per round."""

    scenario: str
    loop: str
    samples_per_block: int
    blocks: Sequence[Block]

    def speeds(self) -> list[float]:
        """Samples per second of each round."""
        return [self.samples_per_block / block.seconds for block in self.blocks]


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of paired rounds; at least two."""
    logarithms = np.log(np.array(ours) / np.array(theirs))
    draws = np.random.default_rng(0).choice(logarithms, size=(RESAMPLED, len(logarithms))).mean(axis=1)
    lower, upper = np.exp(np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Ratio(float(np.exp(logarithms.mean())), float(lower), float(upper))


@dataclass(frozen=True)
class Findings:
    """``versus``: ours over the peer by (scenario, peer); ``efficiency``: two ranks over twice one rank, by loop;
    ``side_by_side``: two worlds of one rank at once over twice one alone: what the two cores allow."""

    versus: Mapping[tuple[str, str], Ratio]
    efficiency: Mapping[str, Ratio]
    side_by_side: Ratio
    pre_share: float


def record(found: Findings) -> dict[str, Any]:
    """train.json: the least favourable scenario of each."""
    return {
        "vsDdp": min(ratio.middle for (_, peer), ratio in found.versus.items() if peer == "ddp"),
        "vsAccelerate": min(ratio.middle for (_, peer), ratio in found.versus.items() if peer == "accelerate"),
        "efficiencyTwoRanks": found.efficiency["ours"].middle,
        "preShare": found.pre_share,
    }


def table(cells: Sequence[Cell], found: Findings) -> str:
    lines = ["| world | loop | samples/s | ours / it (95 %) | pre | all-reduce | other threads |", "| --- " * 7 + "|"]
    for cell in cells:
        versus = found.versus.get((cell.scenario, cell.loop))
        shares = [mean(getattr(block, name) for block in cell.blocks) for name in SHARES]
        told = [f"{share:.1%}" for share in shares] if cell.loop.startswith("ours") else ["-", "-", f"{shares[2]:.1%}"]
        lines.append(
            f"| {cell.scenario} | {cell.loop} | {mean(cell.speeds()):.1f} | {versus or '-'} | "
            + " | ".join(told)
            + " |"
        )
    lines += ["", "| loop | 2 ranks / twice 1 rank (95 %) |", "| --- | --- |"]
    lines += [f"| {loop} | {ratio} |" for loop, ratio in found.efficiency.items()]
    lines.append(f"| two worlds of 1 rank, side by side: no exchange | {found.side_by_side} |")
    return "\n".join(lines)


SHARES = ("pre_share", "all_reduce_share", "other_threads_share")


def targets(found: Findings) -> str:
    told = record(found)
    rows = [
        ("of bare DDP", told["vsDdp"], told["vsDdp"] >= DDP_TARGET, f"at least {DDP_TARGET}"),
        ("efficiency of 2 ranks", told["efficiencyTwoRanks"], told["efficiencyTwoRanks"] >= EFFICIENCY_TARGET,
         f"at least {EFFICIENCY_TARGET}"),
        ("pre of a step", told["preShare"], told["preShare"] < PRE_TARGET, f"below {PRE_TARGET}"),
    ]  # fmt: skip
    return "\n".join(
        f"{'met' if met else 'MISSED':6} {name}: {value:.3f}, {target}" for name, value, met, target in rows
    )
