"""Where a variant computes: the processor's cores, or one CUDA device. The pod's configuration says which."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cycle_server.errors import BadInputError
from cycle_wire.serving import DeviceKind


@dataclass(frozen=True)
class Device:
    """Tensors are made on the host; weights are held here from the start, inputs are put here batch by batch."""

    place: torch.device

    @property
    def is_cpu(self) -> bool:
        return bool(self.place.type == "cpu")

    def hold(self, weight: Tensor) -> Tensor:
        """For as long as the model. Not through pinned memory, which torch would keep as long."""
        return weight.to(self.place)

    def put(self, tensor: Tensor) -> Tensor:
        """An input. Computations that follow wait for the copy, the host doesn't."""
        if self.is_cpu:
            return tensor
        return tensor.pin_memory().to(self.place, non_blocking=True)

    @staticmethod
    def get(tensor: Tensor) -> Tensor:
        """On the host, when all that it is made from has been computed: who measures it measures computing."""
        return tensor.cpu()


CPU = Device(torch.device("cpu"))


def choose_device(kind: DeviceKind, *, workers: int = 1) -> Device:
    """Raises BadInputError where there is no such device, or where several processes are to share it."""
    if kind is DeviceKind.CPU:
        return CPU
    if kind is not DeviceKind.CUDA:
        raise BadInputError(f"the engine computes on cpu or cuda, not on {kind}", reason="NoSuchDevice")
    if workers > 1:
        raise BadInputError(
            f"{workers} workers: one process computes on a cuda device, so the class's serverWorkers has to be 1",
            reason="NoSuchDevice",
        )
    if not torch.cuda.is_available():
        raise BadInputError(
            f"device cuda: torch {torch.__version__} finds none; it needs a GPU in the pod, a RuntimeClass that brings "
            "the GPU's driver in, and an image that was built with ACCELERATOR=cuda",
            reason="NoSuchDevice",
        )
    return Device(torch.device("cuda", torch.cuda.current_device()))


def device_name(kind: DeviceKind, *, processor: Callable[[], str]) -> str:
    """Of what computes: the CUDA device's, else ``processor``'s."""
    device = choose_device(kind)
    return processor() if device.is_cpu else str(torch.cuda.get_device_name(device.place))
