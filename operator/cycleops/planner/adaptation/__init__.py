"""Adaptation: measured T and arrivals in, replicas out, with reasons. Pure; see docs/concepts/adaptation.md.

adapt         one step            attainment, tabulate   what n replicas do at a rate, by simulation
correction    slowness (Kalman)   forecast               the rate ahead, with an interval
account       the error budget    watch, drift           when profiles are stale
"""

from cycleops.planner.adaptation.adapt import adapt
from cycleops.planner.adaptation.attainment import Attainment
from cycleops.planner.adaptation.model import AdaptSettings, Decision, Measurement, Reason, State, Target
from cycleops.planner.adaptation.tabulate import tabulate

__all__ = [
    "AdaptSettings", "Attainment", "Decision", "Measurement", "Reason", "State", "Target", "adapt", "tabulate",
]  # fmt: skip
