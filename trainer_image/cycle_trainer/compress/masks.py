"""Unstructured pruning: single weights held at zero. The shapes stay, so dense kernels gain nothing from it."""

from collections.abc import Iterable

import torch
from torch import Tensor

from cycle_trainer.families.units import Linear


class Masks:
    """Each layer's share of least magnitude, held at zero."""

    def __init__(self, linears: Iterable[tuple[str, Linear]], *, sparsity: float) -> None:
        self._masks: list[tuple[Linear, Tensor]] = []
        for _, linear in linears:
            magnitude = linear.weight.detach().abs().flatten()
            kept = torch.ones_like(magnitude)
            kept[magnitude.topk(round(len(magnitude) * sparsity), largest=False).indices] = 0
            self._masks.append((linear, kept.view_as(linear.weight)))
        self.apply()

    def apply(self) -> None:
        """Set the masked weights to zero again, as an optimizer step moves them."""
        with torch.no_grad():
            for linear, mask in self._masks:
                linear.weight.mul_(mask)
