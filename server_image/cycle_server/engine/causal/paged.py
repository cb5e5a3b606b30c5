"""Keys and values of all sequences in one bounded pool of blocks, and attention over it.

As PagedAttention has it (Kwon et al., SOSP'23): a sequence holds as many blocks of BLOCK_TOKENS tokens as it needs,
anywhere in the pool, so memory is neither reserved for the longest answer nor split into odd holes. A step's tokens of
all sequences stand one behind the other, without padding; only attention looks at each sequence apart.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from cycle_server.engine.causal.request import BLOCK_TOKENS, Chunk
from cycle_server.engine.device import CPU, Device
from cycle_server.engine.sizes import padded

ATTENTION = "cycle_paged"  # the name under which transformers' models find it


class Pool:
    """Room for ``blocks`` blocks: of each layer keys and values (blocks * BLOCK_TOKENS, heads, head size)."""

    def __init__(
        self, *, layers: int, blocks: int, heads: int, head_size: int, dtype: torch.dtype, device: Device = CPU
    ) -> None:
        shape = (blocks * BLOCK_TOKENS, heads, head_size)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device.place) for _ in range(layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device.place) for _ in range(layers)]
        self.blocks = blocks
        self.device = device

    @property
    def size_bytes(self) -> int:
        return sum(int(tensor.nbytes) for tensor in (*self.keys, *self.values))

    @staticmethod
    def block_bytes(*, layers: int, heads: int, head_size: int, dtype: torch.dtype) -> int:
        return 2 * layers * BLOCK_TOKENS * heads * head_size * int(dtype.itemsize)


class Step:
    """One forward pass: where its tokens' keys and values go, and what each of them sees.

    Chunks of one token come first, as one padded batch; longer ones follow, each by itself. Filler rows at the end make
    up one of the sizes of engine/sizes.py where the model is ``sized``; nothing of theirs is kept.
    """

    def __init__(self, pool: Pool, chunks: Sequence[Chunk], *, sized: bool) -> None:
        self._pool = pool
        order = sorted(range(len(chunks)), key=lambda i: len(chunks[i].tokens) > 1)  # stable
        ordered = [chunks[i] for i in order]
        self._singles = sum(len(chunk.tokens) == 1 for chunk in ordered)
        positions = [torch.arange(chunk.position, chunk.position + len(chunk.tokens)) for chunk in ordered]
        self._tokens = sum(len(chunk.tokens) for chunk in ordered)
        filler = [0] * (padded(self._tokens) - self._tokens) if sized else []
        put = pool.device.put
        self.ids = put(torch.tensor([[*(token for chunk in ordered for token in chunk.tokens), *filler]]))
        self.positions = put(torch.cat([*positions, torch.tensor(filler, dtype=torch.long)])[None])
        slots = [_slots(chunk.blocks, where) for chunk, where in zip(ordered, positions, strict=True)]
        self._slots = put(torch.cat(slots))
        ends = torch.tensor([len(chunk.tokens) for chunk in ordered]).cumsum(0)
        # Of each chunk as given, the last token's row; filled up to a size too.
        last = torch.zeros(padded(len(chunks)), dtype=torch.long)
        last[order] = ends - 1
        self.last = put(last)
        bounds = [0, *ends.tolist()]
        self._long = [
            (bounds[i], bounds[i + 1], _put(_seen(chunk), pool) if chunk.position else None)
            for i, chunk in enumerate(ordered)
            if i >= self._singles
        ]
        self._table, self._mask = _put(_batch(ordered[: self._singles]), pool)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """query (1, heads, rows, size), key and value (1, key heads, rows, size) -> (1, rows, heads, size)."""
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        keys[self._slots] = key[0, :, : self._tokens].transpose(0, 1)
        values[self._slots] = value[0, :, : self._tokens].transpose(0, 1)
        heads, rows, size = query.shape[1:]
        out = query.new_empty(1, rows, heads, size)
        out[:, self._tokens :] = 0
        if self._singles:
            out[0, : self._singles] = self._attend_singles(query, keys, values, scale)
        for first, last, seen in self._long:
            if seen is None:
                k, v, mask = key[:, :, first:last], value[:, :, first:last], None
            else:
                where, mask = seen
                k, v = keys[where].transpose(0, 1)[None], values[where].transpose(0, 1)[None]
            attended = functional.scaled_dot_product_attention(
                query[:, :, first:last], k, v, attn_mask=mask, is_causal=seen is None, scale=scale, enable_gqa=True
            )
            out[:, first:last] = attended.transpose(1, 2)
        return out

    def _attend_singles(self, query: Tensor, keys: Tensor, values: Tensor, scale: float | None) -> Tensor:
        """The query heads that share a key head stand as its queries, so keys and values are read once for all."""
        count, (heads, size), key_heads = self._singles, (query.shape[1], query.shape[3]), keys.shape[1]
        gathered = [
            pool.view(-1, BLOCK_TOKENS, key_heads, size)[self._table].view(count, -1, key_heads, size).transpose(1, 2)
            for pool in (keys, values)
        ]
        grouped = query[0, :, :count].transpose(0, 1).reshape(count, key_heads, heads // key_heads, size)
        attended = functional.scaled_dot_product_attention(grouped, *gathered, attn_mask=self._mask, scale=scale)
        return attended.reshape(count, heads, size)


def _put(pair: tuple[Tensor, Tensor], pool: Pool) -> tuple[Tensor, Tensor]:
    return pool.device.put(pair[0]), pool.device.put(pair[1])


def _slots(blocks: Sequence[int], positions: Tensor) -> Tensor:
    """Rows of the pool."""
    return torch.tensor(blocks)[positions // BLOCK_TOKENS] * BLOCK_TOKENS + positions % BLOCK_TOKENS


def _seen(chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Rows of all tokens up to the chunk's last, and which of them each of the chunk's tokens sees."""
    end = chunk.position + len(chunk.tokens)
    positions = torch.arange(end)
    mask = positions[None, :] <= positions[chunk.position :, None]
    return _slots(chunk.blocks, positions), mask


def _batch(singles: Sequence[Chunk]) -> tuple[Tensor, Tensor]:
    """Block table (count, most blocks), and the mask (count, 1, 1, most tokens) of what each one sees."""
    if not singles:
        return torch.empty(0), torch.empty(0)
    most = max(chunk.position for chunk in singles) // BLOCK_TOKENS + 1
    table = torch.tensor([[*chunk.blocks[:most], *[0] * (most - len(chunk.blocks))] for chunk in singles])
    last = torch.tensor([chunk.position for chunk in singles])
    return table, (torch.arange(most * BLOCK_TOKENS)[None, :] <= last[:, None])[:, None, None, :]


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, *, step: Step, **others: Any
) -> tuple[Tensor, None]:
    return step.attend(module.layer_idx, query, key, value, others.get("scaling")), None


def _no_mask(*_: Any, **__: Any) -> None:
    """A step knows what its tokens see."""


def register() -> None:
    """Makes ATTENTION known to transformers' models; ``step`` is handed to it through their forward."""
    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, _no_mask)
