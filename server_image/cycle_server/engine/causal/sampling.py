"""The next token of each sequence from its logits."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cycle_server.engine.causal.request import Sampling
from cycle_server.engine.device import Device

SMALLEST_TEMPERATURE = torch.finfo(torch.float32).tiny  # below it, float32 divides by 0


class Sampler:
    """Of one sequence: its draws don't depend on others'."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self.greedy = sampling.deterministic
        if not self.greedy:
            self._generator = torch.Generator()
            if sampling.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(sampling.seed)

    def draw(self, logits: Tensor) -> int:
        """``logits`` (vocabulary,) float32, which isn't kept as it is."""
        sampling, logits = self._sampling, Device.get(logits)  # draws are the same whatever computed
        # The likeliest stays at 0 and finite, however low the temperature is.
        logits = (logits - logits.max()) / max(sampling.temperature, SMALLEST_TEMPERATURE)
        if sampling.top_k and sampling.top_k < logits.shape[0]:
            least = logits.topk(sampling.top_k).values[-1]
            logits = logits.masked_fill(logits < least, -math.inf)
        probabilities = torch.softmax(logits, dim=0)
        if sampling.top_p < 1:
            ordered, order = probabilities.sort(descending=True)
            kept = ordered.cumsum(0) - ordered < sampling.top_p  # what all that are likelier make up
            kept[0] = True  # also where top_p is 0 in float32
            probabilities = torch.zeros_like(probabilities).scatter_(0, order, ordered * kept)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def next_tokens(logits: Tensor, samplers: Sequence[Sampler | None]) -> list[int | ArithmeticError | None]:
    """Of each row of ``logits`` (sequences, vocabulary) float32; an error where they aren't finite.

    None where no token is wanted (no sampler).
    """
    largest, likeliest = logits.max(dim=1)
    tokens: list[int | ArithmeticError | None] = []
    rows = zip(samplers, likeliest.tolist(), largest.isfinite().tolist(), strict=True)
    for row, (sampler, token, finite) in enumerate(rows):
        if sampler is None:
            tokens.append(None)
        elif not finite:
            tokens.append(ArithmeticError("the model's output isn't finite"))
        else:
            tokens.append(token if sampler.greedy else sampler.draw(logits[row]))
    return tokens
