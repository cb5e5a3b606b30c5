"""The planner: workload + profiles + budget -> the cheapest plan that meets it, with every reason in numbers.

A pure library: no Kubernetes, no I/O, no clock. ``docs/concepts/planner.md`` is the mathematics.

    model         what goes in           traffic       arrivals and lengths, drawn once
    result        what comes out         service_time  a profile as quantile functions
    planning      the door               laws          t_pre, t_compute and t_post, fitted
    prepare, search, nearest, frontier   the search    queueing      closed forms
    memory        what planning again needs
    evaluate      one choice, simulated  bounds        what is known without
    mix, integer  several classes        outcomes      what is said of a simulation
    simulate      the data path          simulation/   queues, balancers, arrivals: compiled loops
    explain       the sentences         generation/    all of this for models that generate text
"""

from cycleops.planner.model import (
    AccuracyFloor,
    Algorithm,
    Budget,
    Candidate,
    HardwareOption,
    Headroom,
    Limits,
    Pinned,
    Settings,
    TrafficClass,
    Workload,
)
from cycleops.planner.planning import Planner, plan
from cycleops.planner.result import (
    Dimension,
    FrontierPoint,
    NearestFeasible,
    Obstacle,
    Plan,
    PlanGroup,
    PlanResult,
    Prediction,
    Rejected,
    RejectReason,
    Term,
    to_dict,
)

__all__ = [
    "AccuracyFloor", "Algorithm", "Budget", "Candidate", "Dimension", "FrontierPoint", "HardwareOption", "Headroom",
    "Limits", "NearestFeasible", "Obstacle", "Pinned", "Plan", "PlanGroup", "PlanResult", "Planner", "Prediction",
    "RejectReason", "Rejected", "Settings", "Term", "TrafficClass", "Workload", "plan", "to_dict",
]  # fmt: skip
