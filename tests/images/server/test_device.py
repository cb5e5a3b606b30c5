"""On a CUDA device the engine answers what it answers on the processor. Without one it says what is wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cycle_server.engine.causal.model import CausalEngine
from cycle_server.engine.causal.request import BLOCK_TOKENS, Chunk, Sampling
from cycle_server.engine.device import CPU, Device, choose_device
from cycle_server.engine.pipeline import Engine
from cycle_server.engine.rectangle import Rectangle
from cycle_server.errors import BadInputError
from cycle_wire.parts import Activations, Precision, Quantization, Variant
from cycle_wire.serving import DeviceKind
from tests.images.server.causal_variants import write_causal
from tests.images.server.image_variants import write_image_variant
from tests.images.server.variants import write_variant

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
LENGTHS = [5, 16, 16, 1, 40, 16]
PROMPTS = [[5, 9, 2, 7, 7, 1], [3], list(range(4, 44)), [8, 8]]
# Largest change of a probability against the processor. int8: on CUDA the activations aren't rounded to integers.
CASES = {
    "float32": (Variant(name="v"), 1e-4),
    "bfloat16": (Variant(name="v", precision=Precision.BFLOAT16), 0.03),
    "int8": (Variant(name="v", quantization=Quantization()), 0.02),
    "int8-weights": (Variant(name="v", quantization=Quantization(activations=Activations.NONE)), 1e-4),
}


@pytest.fixture
def cuda() -> Device:
    return choose_device(DeviceKind.CUDA)


def texts(lengths: list[int]) -> list[list[int]]:
    return [[2 + (7 * i + 3 * place) % 16 for place in range(length)] for i, length in enumerate(lengths)]


@needs_cuda
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("lengths", [LENGTHS, [16] * 4, [1], [48]], ids=["unlike", "alike", "token", "longest"])
def test_a_text_is_classified_as_on_the_processor(case: str, lengths: list[int], tmp_path: Path, cuda: Device) -> None:
    variant, tolerance = CASES[case]
    write_variant(tmp_path / "v", variant=variant)
    here, there = (Engine(tmp_path / "v", threads=1, device=device) for device in (CPU, cuda))
    expected, made = (engine.compute(texts(lengths)) for engine in (here, there))
    probabilities = here.post(expected).probabilities
    assert np.abs(there.post(made).probabilities - probabilities).max() < tolerance
    cosines = (here.embeddings(expected) * there.embeddings(made)).sum(axis=1)
    assert cosines.min() > 1 - tolerance
    if len(lengths) > 1:
        assert probabilities.std(axis=0).max() > 0.02, "the answers must differ for the comparison to mean something"


@needs_cuda
@pytest.mark.parametrize("case", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["convnext", "vit"])
def test_an_image_is_classified_as_on_the_processor(case: str, family: str, tmp_path: Path, cuda: Device) -> None:
    from cycle_server.engine.image import ImageEngine

    variant, tolerance = CASES[case]
    write_image_variant(tmp_path / "v", variant=variant, family=family)
    here, there = (ImageEngine(tmp_path / "v", threads=1, device=device) for device in (CPU, cuda))
    pixels = np.random.default_rng(0).integers(0, 256, (3, *here.image_format.shape), dtype=np.uint8)
    expected, made = (engine.post(engine.compute(engine.pre(pixels))).probabilities for engine in (here, there))
    assert np.abs(made - expected).max() < tolerance


@needs_cuda
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_tokens_are_as_likely_as_on_the_processor(case: str, family: str, tmp_path: Path, cuda: Device) -> None:
    """Prompts, then one more token of each, and a second piece of a prompt: all that a step can be made of."""
    variant, tolerance = CASES[case]
    write_causal(tmp_path / "v", variant=variant, family=family)
    made = [
        _steps(CausalEngine(tmp_path / "v", threads=1, pool_bytes=1 << 24, sequences=8, device=device))
        for device in (CPU, cuda)
    ]
    for expected, found in zip(*made, strict=True):
        assert (expected.softmax(dim=1) - found.softmax(dim=1)).abs().max() < 2 * tolerance


def _steps(engine: CausalEngine) -> list[torch.Tensor]:
    room = engine.blocks // len(PROMPTS)
    blocks = [range(i * room, (i + 1) * room) for i in range(len(PROMPTS))]
    first = [Chunk(tokens=tokens, position=0, blocks=b) for tokens, b in zip(PROMPTS, blocks, strict=True)]
    later = [
        Chunk(tokens=[6] * (1 if i else 3), position=len(tokens), blocks=b)
        for i, (tokens, b) in enumerate(zip(PROMPTS, blocks, strict=True))
    ]
    return [engine.logits(first), engine.logits(later), engine.logits_of([1, 2, 3] * BLOCK_TOKENS)]


@needs_cuda
def test_tokens_are_drawn_as_on_the_processor(tmp_path: Path, cuda: Device) -> None:
    write_causal(tmp_path / "v", variant=Variant(name="v"))
    drawn = []
    for device in (CPU, cuda):
        engine = CausalEngine(tmp_path / "v", threads=1, pool_bytes=1 << 24, sequences=1, device=device)
        samplers = [engine.sampler(Sampling()), engine.sampler(Sampling(temperature=1.0, seed=3))]
        chunks = [Chunk(tokens=PROMPTS[0], position=0, blocks=[i]) for i in range(len(samplers))]
        drawn.append(engine.advance(chunks, samplers))
    assert drawn[0] == drawn[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(BadInputError, match="device cuda: ") as refused:
        choose_device(DeviceKind.CUDA)
    assert refused.value.reason == "NoSuchDevice"


@pytest.mark.parametrize(
    ("kind", "workers", "said"), [(DeviceKind.TPU, 1, "not on tpu"), (DeviceKind.CUDA, 2, "serverWorkers has to be 1")]
)
def test_what_no_engine_computes_on_is_refused(kind: DeviceKind, workers: int, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        choose_device(kind, workers=workers)


@pytest.mark.parametrize("lengths", [LENGTHS, [1, 2], [48, 1]])
def test_attention_over_a_rectangle_is_that_of_each_text(lengths: list[int]) -> None:
    """The device's way of unlike texts, computed here: device or not, it is the same arithmetic."""
    heads, size = 3, 8
    mixed = torch.randn(sum(lengths), 3 * heads * size, generator=torch.Generator().manual_seed(0))
    rectangle = Rectangle.spread(lengths, CPU)
    each = [
        torch.nn.functional.scaled_dot_product_attention(
            *part.view(len(part), 3, heads, size).permute(1, 2, 0, 3).unbind(0)
        )
        .transpose(0, 1)
        .reshape(len(part), -1)
        for part in mixed.split(lengths)
    ]
    torch.testing.assert_close(rectangle.attend(mixed, heads=heads, head_size=size), torch.cat(each))
    means = torch.stack([part.mean(dim=0) for part in mixed.split(lengths)])
    torch.testing.assert_close(rectangle.means(mixed), means)
