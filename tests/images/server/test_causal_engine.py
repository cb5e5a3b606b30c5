"""The engine for causal language models against transformers' own generate."""

from pathlib import Path

import pytest
import torch

from cycle_server.batching.generation.blocks import Blocks
from cycle_server.engine.causal.model import CausalEngine
from cycle_server.engine.causal.request import BLOCK_TOKENS, ChatError, Chunk, Sampling
from cycle_server.errors import BadVariantError
from cycle_wire.parts import Activations, Granularity, Precision, Quantization, Scheme, Variant
from tests.images.server.causal_variants import CONTEXT, TEXTS, write_causal

FLOAT = Variant(name="v")
FOUR_BITS = Quantization(bits=4, granularity=Granularity.PER_GROUP, group_size=32, activations=Activations.NONE)


def engine_of(folder: Path, *, sequences: int = 8, pool_bytes: int = 1 << 24) -> CausalEngine:
    return CausalEngine(folder, threads=1, pool_bytes=pool_bytes, sequences=sequences)


def expected(reference: torch.nn.Module, prompt: list[int], new: int) -> list[int]:
    """Greedy, by transformers."""
    with torch.no_grad():
        out = reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
        )
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


def generate(
    engine: CausalEngine, prompts: list[list[int]], new: int, *, joins: list[int], chunk: int
) -> list[list[int]]:
    """Greedy; sequence i joins at step ``joins[i]``, its prompt comes in parts of ``chunk`` tokens."""
    blocks = Blocks(count=engine.blocks, tokens=BLOCK_TOKENS)
    greedy = engine.sampler(Sampling())
    texts, own, done = [list(p) for p in prompts], [list[int]() for _ in prompts], [0] * len(prompts)
    step = 0
    while any(len(text) < len(prompt) + new for text, prompt in zip(texts, prompts, strict=True)):
        chunks, who = [], []
        for i, text in enumerate(texts):
            if joins[i] > step or len(text) == len(prompts[i]) + new:
                continue
            part = text[done[i] : done[i] + chunk]
            own[i] += blocks.take(blocks.needed(done[i] + len(part)) - len(own[i]))
            chunks.append(Chunk(tokens=part, position=done[i], blocks=own[i]))
            who.append(i)
        samplers = [
            greedy if c.position + len(c.tokens) == len(texts[i]) else None for c, i in zip(chunks, who, strict=True)
        ]
        tokens = engine.advance(chunks, samplers) if chunks else []
        for i, part, token in zip(who, chunks, tokens, strict=True):
            done[i] += len(part.tokens)
            if token is not None:
                assert isinstance(token, int)
                texts[i].append(token)
            if len(texts[i]) == len(prompts[i]) + new:
                blocks.give_back(own[i])
        step += 1
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "qwen2", "qwen3"])
def test_tokens_are_those_of_transformers_whoever_joins_and_leaves(tmp_path: Path, family: str) -> None:
    reference = write_causal(tmp_path / "v", variant=FLOAT, family=family)
    engine = engine_of(tmp_path / "v")
    prompts = [engine.encode(text)[:length] for text, length in zip(TEXTS * 2, (1, 40, 7, 16, 33, 25), strict=True)]
    wanted = [expected(reference, prompt, 30) for prompt in prompts]
    assert generate(engine, prompts, 30, joins=[0, 3, 0, 9, 3, 20], chunk=CONTEXT) == wanted
    assert generate(engine, prompts, 30, joins=[0, 0, 1, 2, 5, 30], chunk=12) == wanted, "prompts in parts"
    assert [generate(engine, [prompt], 30, joins=[0], chunk=CONTEXT)[0] for prompt in prompts] == wanted, "each alone"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("variant", "difference"),
    [
        (Variant(name="bf16", precision=Precision.BFLOAT16), 0.15),
        (Variant(name="int8", quantization=Quantization()), 0.15),
        (Variant(name="int8a", quantization=Quantization(scheme=Scheme.ASYMMETRIC)), 0.15),
        (Variant(name="int8w", quantization=Quantization(activations=Activations.NONE)), 1e-3),
        (Variant(name="int4", quantization=FOUR_BITS), 1e-3),
    ],
    ids=lambda part: getattr(part, "name", ""),
)
def test_other_precisions_are_close(tmp_path: Path, family: str, variant: Variant, difference: float) -> None:
    reference = write_causal(tmp_path / "v", variant=variant, family=family)
    engine = engine_of(tmp_path / "v")
    ids = engine.encode(TEXTS[0])
    with torch.no_grad():
        wanted = torch.log_softmax(reference(torch.tensor([ids])).logits[0], dim=-1)
    found = torch.log_softmax(engine.logits_of(ids), dim=-1)
    assert (found - wanted).abs().mean() < difference


def test_what_is_seen_in_blocks_anywhere_is_what_was_written(tmp_path: Path) -> None:
    """Blocks that others used before, in any order."""
    reference = write_causal(tmp_path / "v", variant=FLOAT)
    engine = engine_of(tmp_path / "v", sequences=2)
    prompt = engine.encode(TEXTS[1])
    engine.logits_of([5] * CONTEXT)
    blocks = list(range(engine.blocks - 1, -1, -1))[: CONTEXT // BLOCK_TOKENS]
    text = list(prompt)
    for _ in range(20):
        first = 0 if len(text) == len(prompt) else len(text) - 1
        text += engine.advance([Chunk(text[first:], first, blocks)], [engine.sampler(Sampling())])  # type: ignore[arg-type]
    assert text[len(prompt) :] == expected(reference, prompt, 20)


def test_the_pool_is_bounded_in_bytes(tmp_path: Path) -> None:
    write_causal(tmp_path / "v", variant=FLOAT)
    longest = CONTEXT // BLOCK_TOKENS
    assert engine_of(tmp_path / "v", sequences=3).blocks == 3 * longest
    block = 2 * 2 * BLOCK_TOKENS * 2 * 16 * 4  # keys and values, layers, tokens, heads, size, float32
    assert engine_of(tmp_path / "v", sequences=99, pool_bytes=15 * block).blocks == 15
    assert engine_of(tmp_path / "v", sequences=99, pool_bytes=1).blocks == longest, "one sequence always fits"


def test_chats_are_written_by_the_models_template(tmp_path: Path) -> None:
    write_causal(tmp_path / "v", variant=FLOAT)
    engine = engine_of(tmp_path / "v")
    ids = engine.encode_chat([{"role": "system", "content": "be"}, {"role": "user", "content": "cat"}])
    assert ids == engine.encode("<|system|>be<|end|><|user|>cat<|end|><|assistant|>")
    with pytest.raises(ChatError, match="no tools"):
        engine.encode_chat([{"role": "tool", "content": "x"}])
    write_causal(tmp_path / "w", variant=FLOAT, chat=False)
    with pytest.raises(ChatError, match="no chat template"):
        engine_of(tmp_path / "w").encode_chat([{"role": "user", "content": "cat"}])


def test_a_template_can_reach_nothing_of_the_process(tmp_path: Path) -> None:
    write_causal(tmp_path / "v", variant=FLOAT)
    (tmp_path / "v" / "chat_template.jinja").write_text("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(ChatError, match="unsafe|undefined"):
        engine_of(tmp_path / "v").encode_chat([{"role": "user", "content": "cat"}])


def test_texts_come_out_as_they_went_in(tmp_path: Path) -> None:
    write_causal(tmp_path / "v", variant=FLOAT)
    engine = engine_of(tmp_path / "v")
    for text in [*TEXTS, "a 🐕‍🦺 b"]:
        detokenizer = engine.detokenizer()
        assert "".join([*(detokenizer.add(token) for token in engine.encode(text)), detokenizer.rest()]) == text
    cut = engine.detokenizer()
    given = "".join(cut.add(token) for token in engine.encode("犬")[:1])
    assert given + cut.rest() == "\ufffd", "half a character, at the end only"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("config.json", '"model_type": "llama"', '"model_type": "bloom"', "'bloom' is none of"),
        ("manifest.json", '"quantizedLayers":[]', '"quantizedLayers":["model.norm"]', "no linear layer"),
        ("manifest.json", '"quantizedLayers":[]', '"quantizedLayers":["model.x"]', "which the model hasn't"),
        ("manifest.json", '"quantizedLayers":[]', '"quantizedLayers":["model.layers.0.mlp.up_proj"]', "int8"),
        ("config.json", '"num_hidden_layers": 2', '"num_hidden_layers": 3', "lacks 9 tensors"),
        ("config.json", '"num_hidden_layers": 2', '"num_hidden_layers": 1', "tensors too many"),
        ("config.json", '"vocab_size": ', '"vocab_size": 1', "size mismatch"),
    ],
)
def test_a_wrong_folder_is_refused(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    write_causal(tmp_path / "v", variant=FLOAT)
    path = tmp_path / "v" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(BadVariantError, match=message):
        engine_of(tmp_path / "v")
