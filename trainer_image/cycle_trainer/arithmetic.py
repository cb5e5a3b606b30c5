"""In which type a training computes on the machine that it is on."""

import torch

from cycle_wire.parts import Precision


def computed_in(precision: Precision) -> Precision:
    """The spec's type, or Float32 where the CPU has no bfloat16 arithmetic.

    Such a CPU (no AVX-512) emulates bfloat16: a step then takes several times as long as in float32 and is less exact,
    which nobody who asks for bfloat16 wants. What was computed in is reported with the trained model.
    """
    if precision is Precision.BFLOAT16 and not _has_bfloat16():
        return Precision.FLOAT32
    return precision


def _has_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(precision: Precision) -> torch.autocast:
    """Forward passes in that type; weights, gradients and AdamW's state stay float32."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=computed_in(precision) is Precision.BFLOAT16)
