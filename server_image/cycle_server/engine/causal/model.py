"""A causal language model, ready to be stepped: one step computes tokens of many sequences at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jinja2 import TemplateError
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor

from cycle_server.engine.causal.load import LoadedCausal, load_causal
from cycle_server.engine.causal.paged import Pool, Step
from cycle_server.engine.causal.request import BLOCK_TOKENS, ChatError, Chunk, Sampling
from cycle_server.engine.causal.sampling import Sampler, next_tokens
from cycle_server.engine.device import CPU, Device
from cycle_server.engine.linears import sized_layers
from cycle_server.engine.pipeline import configure_process
from cycle_server.engine.sizes import sizes
from cycle_wire.variant import VariantManifest


class CausalEngine:
    """One variant and its pool of keys and values. Raises BadVariantError when its folder is not right.

    The pool has room for ``sequences`` of the longest, or as many bytes as ``pool_bytes`` if that is less; but always
    for one sequence. ``advance`` may be called on one thread only, all else on any.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        pool_bytes: int,
        sequences: int,
        device: Device = CPU,
        verify: bool = True,
    ) -> None:
        configure_process(threads=threads)
        loaded = load_causal(folder, device=device, verify=verify)
        self._model = loaded.model
        self._sized, self._sized_output = sized_layers(loaded.model)
        self._dtype = loaded.dtype
        self._tokenizer = loaded.tokenizer
        self.manifest: VariantManifest = loaded.manifest
        self.maximum_tokens = loaded.maximum_tokens
        self.end_tokens = loaded.end_tokens
        self._pool = _pool(loaded, device=device, pool_bytes=pool_bytes, sequences=sequences)
        # What an empty text begins with. A tokenizer may name tokens that the model has no embedding of.
        known = [token for token in (self._tokenizer.bos_token_id, *sorted(self.end_tokens)) if token is not None]
        vocabulary = loaded.model.config.vocab_size
        self._start_token: int = next((token for token in known if token < vocabulary), 0)

    @property
    def blocks(self) -> int:
        """Of the pool, of BLOCK_TOKENS tokens each."""
        return self._pool.blocks

    @property
    def pool_bytes(self) -> int:
        return self._pool.size_bytes

    @property
    def has_chat_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    def encode(self, text: str) -> list[int]:
        """Token ids with what the tokenizer puts around a text; never empty, never cut."""
        ids: list[int] = self._tokenizer.backend_tokenizer.encode(text).ids
        return ids or [self._start_token]

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a conversation, up to where the assistant begins. Raises ChatError.

        The template is the model's own; transformers renders it in Jinja's sandbox.
        """
        if not self.has_chat_template:
            raise ChatError("the model has no chat template: it completes texts only")
        try:
            text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ChatError(f"the model's chat template refuses them: {error}") from error
        ids: list[int] = self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        return ids or [self._start_token]

    def detokenizer(self) -> "Detokenizer":
        return Detokenizer(self._tokenizer.backend_tokenizer)

    def sampler(self, sampling: Sampling) -> Sampler:
        return Sampler(sampling)

    def prepare(self, *, tokens: int, sequences: int) -> None:
        """Has the kernels made for steps of up to so many ``tokens`` and ``sequences``, as Engine.prepare does."""
        with torch.inference_mode():
            for layers, largest in ((self._sized, tokens), (self._sized_output, sequences)):
                for rows in sizes(largest):
                    for layer in layers:
                        layer(torch.zeros(rows, layer.inputs, dtype=self._dtype))

    def advance(
        self, chunks: Sequence[Chunk], samplers: Sequence[Sampler | None]
    ) -> list[int | ArithmeticError | None]:
        """One step: the token behind each chunk whose sampler is given. Keys and values go into the pool.

        An ArithmeticError where the model's output isn't finite.
        """
        return next_tokens(self._logits(chunks), samplers)

    def logits(self, chunks: Sequence[Chunk]) -> Tensor:
        """Behind each chunk's last token, float32 (chunks, vocabulary), on the host."""
        return self._pool.device.get(self._logits(chunks))

    def _logits(self, chunks: Sequence[Chunk]) -> Tensor:
        """Where they were computed."""
        step = Step(self._pool, chunks, sized=bool(self._sized))
        with torch.inference_mode():
            output = self._model(
                input_ids=step.ids,
                position_ids=step.positions,
                use_cache=False,
                logits_to_keep=step.last,
                step=step,
            )
            logits: Tensor = output.logits[0, : len(chunks)].float()
        return logits

    def logits_of(self, tokens: Sequence[int]) -> Tensor:
        """Float32 (tokens, vocabulary): behind each token of one text, at most ``maximum_tokens``. Uses the pool."""
        blocks = range(-(-len(tokens) // BLOCK_TOKENS))
        chunks = [Chunk(tokens=tokens, position=0, blocks=blocks)]
        step = Step(self._pool, chunks, sized=bool(self._sized))
        with torch.inference_mode():
            output = self._model(input_ids=step.ids, position_ids=step.positions, use_cache=False, step=step)
            logits: Tensor = output.logits[0, : len(tokens)].float()
        return self._pool.device.get(logits)


class Detokenizer:
    """Text of tokens that come one by one; what is no whole character yet is held back. Special tokens have none."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held: list[int] = []

    def add(self, token: int) -> str:
        self._held.append(token)
        text: str | None = self._stream.step(self._tokenizer, token)
        if text is None:
            return ""
        self._held.clear()
        return text

    def rest(self) -> str:
        """What was held back, at the end: an unfinished character as the replacement character."""
        return str(self._tokenizer.decode(self._held, skip_special_tokens=True)) if self._held else ""


def _pool(loaded: LoadedCausal, *, device: Device, pool_bytes: int, sequences: int) -> Pool:
    config, dtype = loaded.model.config, loaded.dtype
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = config.num_hidden_layers
    one = Pool.block_bytes(layers=layers, heads=heads, head_size=head_size, dtype=dtype)
    longest = -(-loaded.maximum_tokens // BLOCK_TOKENS)
    blocks = max(min(sequences * longest, pool_bytes // one), longest)
    return Pool(layers=layers, blocks=blocks, heads=heads, head_size=head_size, dtype=dtype, device=device)
