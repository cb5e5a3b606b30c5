"""What computes on a class of hardware: its accelerator, or threads: as it says, else by the CPU request.
Never by the host's cores.
"""

from kubernetes.utils.quantity import parse_quantity

from cycle_wire.serving import DeviceKind
from cycleops.api.hardwareclass import AcceleratorKind, HardwareClassSpec

DEVICES = {AcceleratorKind.GPU: DeviceKind.CUDA, AcceleratorKind.TPU: DeviceKind.TPU}


def threads_of(hardware: HardwareClassSpec) -> int:
    """Of a pod that trains, at least 1."""
    return hardware.threads or _cores_for(hardware, processes=1)


def server_workers_of(hardware: HardwareClassSpec) -> int:
    """Processes that compute in one server pod."""
    return hardware.server_workers or 1


def server_threads_of(hardware: HardwareClassSpec) -> int:
    """Of each worker of a server pod, at least 1."""
    return hardware.threads or _cores_for(hardware, processes=server_workers_of(hardware))


def device_of(hardware: HardwareClassSpec) -> DeviceKind:
    """Of a server pod. The accelerator decides: a class without one computes on its cores."""
    return DEVICES[hardware.accelerator.kind] if hardware.accelerator else DeviceKind.CPU


def _cores_for(hardware: HardwareClassSpec, *, processes: int) -> int:
    return max(1, int(parse_quantity(hardware.resources.requests["cpu"]) / processes))
