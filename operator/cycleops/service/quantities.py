"""Kubernetes quantities as numbers."""

from kubernetes.utils.quantity import parse_quantity

from cycleops.api.hardwareclass import HardwareClassSpec


def size_bytes(quantity: str) -> int:
    """``64Mi`` is 67108864. Raises ValueError on what is no quantity."""
    return int(parse_quantity(quantity))


def cpu_limit_of(hardware: HardwareClassSpec, *, processes: int) -> float | None:
    """Cores that each of a pod's ``processes`` may use in the mean of each 100 ms when all compute; None: no limit."""
    limits = hardware.resources.limits or {}
    return float(parse_quantity(limits["cpu"])) / processes if "cpu" in limits else None
