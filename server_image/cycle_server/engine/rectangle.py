"""Attention over texts of unlike lengths in few kernels, for a device that is idle while each one is launched.

Packed texts are spread over (texts, longest) for attention alone, where a mask hides what is no token; all else stays
packed. On a processor's cores each text by itself is faster: engine/encoder.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cycle_server.engine.device import Device


@dataclass(frozen=True)
class Rectangle:
    """``rows`` (texts, longest): packed row of each place; ``tokens`` (tokens,): place of each packed row.

    ``seen`` (texts, longest): whether a place holds a token.
    """

    rows: Tensor
    tokens: Tensor
    seen: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: Device) -> "Rectangle | None":
        """None where texts are taken as they lie: all alike, or on a processor."""
        if device.is_cpu or all(n == lengths[0] for n in lengths):
            return None
        return cls.spread(lengths, device)

    @classmethod
    def spread(cls, lengths: Sequence[int], device: Device) -> "Rectangle":
        counts = torch.tensor(lengths)
        places = torch.arange(max(lengths))[None, :]
        seen = places < counts[:, None]
        rows = torch.where(seen, (counts.cumsum(0) - counts)[:, None] + places, 0)
        return cls(rows=device.put(rows), tokens=device.put(seen.flatten().nonzero()[:, 0]), seen=device.put(seen))

    def attend(self, mixed: Tensor, *, heads: int, head_size: int) -> Tensor:
        """mixed (tokens, 3 * heads * head_size) -> (tokens, heads * head_size)."""
        texts, longest = self.rows.shape
        spread = mixed[self.rows].view(texts, longest, 3, heads, head_size)
        query, key, value = spread.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=self.seen[:, None, None, :])
        return attended.transpose(1, 2).reshape(texts * longest, heads * head_size)[self.tokens]

    def means(self, hidden: Tensor) -> Tensor:
        """Mean over each text's tokens in float32: (texts, hidden)."""
        spread = hidden.float()[self.rows] * self.seen[:, :, None]
        return spread.sum(dim=1) / self.seen.sum(dim=1, keepdim=True)
