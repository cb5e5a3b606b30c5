"""AdamW with the usual groups, its state as named tensors, and the learning rate of a step."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from cycle_wire.parts import Training

MAXIMUM_GRADIENT_NORM = 1.0
STATE_NAMES = ("exp_avg", "exp_avg_sq", "step")


def make_optimizer(model: nn.Module, *, head: Iterable[nn.Parameter], training: Training) -> Optimizer:
    """Weights decay, biases and norms don't; the head's rate is multiplied. Peak rates stay in ``initial_lr``."""
    rate, decay = float(training.learning_rate), float(training.weight_decay)
    head_rate = rate * float(training.head_learning_rate_multiplier)
    heads = {id(parameter) for parameter in head}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (head_rate if id(parameter) in heads else rate, decay if parameter.ndim > 1 else 0.0)
            groups.setdefault(key, []).append(parameter)
    return AdamW(
        [
            {"params": members, "lr": lr, "initial_lr": lr, "weight_decay": weight_decay}
            for (lr, weight_decay), members in groups.items()
        ],
        fused=True,
    )


def set_learning_rate(optimizer: Optimizer, *, scale: float) -> float:
    """Set each group's rate to a share of its peak; returns the body's (the lowest)."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * scale
    return min(float(group["lr"]) for group in optimizer.param_groups)


def clip_gradients(model: nn.Module) -> float:
    """Scale the gradients to at most MAXIMUM_GRADIENT_NORM; returns the norm before."""
    return float(nn.utils.clip_grad_norm_(model.parameters(), MAXIMUM_GRADIENT_NORM))


def distinct_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights by name, one that several modules share (tied embeddings) under its first name only."""
    first: dict[tuple[int, torch.Size], tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        first.setdefault((tensor.data_ptr(), tensor.shape), (name, tensor))
    return dict(first.values())


def training_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """All that training changes, by name: weights and AdamW's state (made here when it isn't there yet).

    Names follow the model, so that a checkpoint doesn't depend on the order of groups.
    """
    tensors = {f"model.{name}": tensor for name, tensor in distinct_tensors(model).items()}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        tensors |= {f"optimizer.{name}.{key}": state[key] for key in STATE_NAMES}
    return tensors
