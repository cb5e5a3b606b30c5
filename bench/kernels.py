"""Which kernels the engine should use, measured side by side on this processor: all-MiniLM's shapes, random weights.

    python -m tests.images.run server -- python -m bench.kernels
    python -m tests.images.run server -- python -m bench.kernels --default-malloc

Candidates take turns, so that a disturbance of the machine falls on all alike. Prints p50 and p10 in milliseconds, of
the thread's CPU time: on a machine that others use too, waiting for a core isn't the kernel's fault.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from cycle_server.engine.encoder import Embeddings, Encoder, Layer, Norm
from cycle_server.engine.pipeline import configure_process
from cycle_server.engine.quantized import (
    FbgemmInt8Linear,
    FloatLinear,
    Int8Weights,
    Linear,
    PackedFloatLinear,
    PortableInt8Linear,
)

HIDDEN, INNER, HEADS, LAYERS, WORDS, LONGEST, CLASSES = 384, 1536, 12, 6, 30_522, 512, 45
CELLS = ((1, 16), (1, 64), (8, 16), (8, 64))
CELL_SECONDS = 6.0
MINIMUM_TURNS = 12

Factory = Callable[[FloatLinear], Linear]


class PerTensorDynamic:
    """torch.ao's dynamic quantization: one activation scale for the whole batch, so answers depend on neighbours."""

    def __init__(self, linear: FloatLinear) -> None:
        weights = quantize(linear)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            packed = torch._make_per_channel_quantized_tensor(
                weights.integers, weights.scale.double(), weights.zero_point.long(), 0
            )
        self._packed = torch.ops.quantized.linear_prepack(packed, linear.bias)

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, False)
        return out


def quantize(linear: FloatLinear) -> Int8Weights:
    scale = linear.weight.abs().amax(dim=1) / 127
    integers = (linear.weight / scale[:, None]).round().to(torch.int8)
    return Int8Weights.of(integers=integers, scale=scale, zero_point=None, bias=linear.bias)


CANDIDATES: dict[str, tuple[torch.dtype, Factory]] = {
    "fp32 torch": (torch.float32, lambda linear: linear),
    "fp32 packed": (torch.float32, PackedFloatLinear),
    "bf16 torch": (torch.bfloat16, lambda linear: linear),
    "bf16 packed": (torch.bfloat16, PackedFloatLinear),
    "int8 _int_mm": (torch.float32, lambda linear: PortableInt8Linear(quantize(linear))),
    "int8 fbgemm": (torch.float32, lambda linear: FbgemmInt8Linear(quantize(linear))),
    "int8 per-tensor": (torch.float32, PerTensorDynamic),
}


def make_encoder(dtype: torch.dtype, factory: Factory) -> Encoder:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=generator) * 0.05).to(dtype)

    def linear(outputs: int, inputs: int) -> Linear:
        return factory(FloatLinear(random(outputs, inputs), random(outputs)))

    def norm() -> Norm:
        return Norm(random(HIDDEN) + 1, random(HIDDEN), 1e-12)

    layers = [
        Layer(
            heads=HEADS,
            intermediate_size=INNER,
            attention_in=linear(3 * HIDDEN, HIDDEN),
            attention_out=linear(HIDDEN, HIDDEN),
            attention_norm=norm(),
            intermediate=linear(INNER, HIDDEN),
            output=linear(HIDDEN, INNER),
            output_norm=norm(),
        )
        for _ in range(LAYERS)
    ]
    embeddings = Embeddings(
        words=random(WORDS, HIDDEN), positions=random(LONGEST, HIDDEN), norm=norm(), projection=None
    )
    head = FloatLinear(random(CLASSES, HIDDEN).float(), random(CLASSES).float())
    return Encoder(embeddings=embeddings, layers=layers, head_size=HIDDEN // HEADS, activation="gelu", classifier=head)


def measure(encoders: dict[str, Encoder], *, batch_size: int, length: int) -> dict[str, list[float]]:
    """Sorted seconds of each candidate."""
    texts = torch.randint(1000, 20_000, (batch_size, length), generator=torch.Generator().manual_seed(1)).tolist()
    times: dict[str, list[float]] = {name: [] for name in encoders}
    for encoder in encoders.values():
        encoder.logits(texts)
    until, turns = time.perf_counter() + CELL_SECONDS, 0
    while turns < MINIMUM_TURNS or time.perf_counter() < until:
        for name, encoder in encoders.items():
            started = time.thread_time()
            encoder.logits(texts)
            times[name].append(time.thread_time() - started)
        turns += 1
    return {name: sorted(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--default-malloc", action="store_true", help="leave glibc's memory settings as they are")
    options = parser.parse_args()
    if options.default_malloc:
        torch.set_num_threads(1)
    else:
        configure_process(threads=1)
    with torch.inference_mode():
        encoders = {name: make_encoder(dtype, factory) for name, (dtype, factory) in CANDIDATES.items()}
        print(f"{'batch x length':<16}" + "".join(f"{name:>18}" for name in encoders))
        for batch_size, length in CELLS:
            times = measure(encoders, batch_size=batch_size, length=length)
            cells = [f"{v[len(v) // 2] * 1000:.2f} / {v[len(v) // 10] * 1000:.2f}" for v in times.values()]
            print(f"{f'{batch_size} x {length}':<16}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
