"""Both integer kernels against the float product of the same weights."""

import pytest
import torch

from cycle_server.engine.grouped import pack_nibbles, unpack_nibbles
from cycle_server.engine.quantized import FbgemmInt8Linear, Int8Weights, PortableInt8Linear
from cycle_server.engine.stored import read_layer
from cycle_server.errors import BadVariantError
from cycle_wire.parts import Activations, Granularity, Quantization

# Without VNNI fbgemm's sums of pairs saturate, and the engine doesn't choose it.
HAS_FBGEMM = "fbgemm" in torch.backends.quantized.supported_engines and torch.cpu._is_vnni_supported()
KERNELS = [PortableInt8Linear] + ([FbgemmInt8Linear] if HAS_FBGEMM else [])


def weights(*, asymmetric: bool, per_tensor: bool, outputs: int = 24, inputs: int = 48) -> Int8Weights:
    generator = torch.Generator().manual_seed(1)
    return Int8Weights.of(
        integers=torch.randint(-128, 128, (outputs, inputs), generator=generator, dtype=torch.int8),
        scale=torch.rand(1 if per_tensor else outputs, generator=generator) * 0.01 + 0.001,
        zero_point=torch.randint(-20, 20, (1 if per_tensor else outputs,), generator=generator) if asymmetric else None,
        bias=torch.randn(outputs, generator=generator),
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("tokens", [1, 17])
def test_kernel_is_the_float_product_up_to_activation_rounding(
    kernel: type, asymmetric: bool, per_tensor: bool, tokens: int
) -> None:
    packed = weights(asymmetric=asymmetric, per_tensor=per_tensor)
    x = torch.randn(tokens, 48, generator=torch.Generator().manual_seed(2))
    exact = packed.dequantize(torch.float32)(x)
    step = x.abs().amax(dim=1, keepdim=True) / 127
    bound = step / 2 * packed.dequantize(torch.float32).weight.abs().sum(dim=1) + 1e-4
    difference = (kernel(packed)(x) - exact).abs()
    assert bool((difference <= bound).all())
    assert float(difference.max()) > 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_token_of_zeros_gives_the_bias(kernel: type) -> None:
    packed = weights(asymmetric=True, per_tensor=False)
    assert torch.equal(kernel(packed)(torch.zeros(2, 48)), packed.bias.expand(2, -1))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_largest_weights_and_values_do_not_saturate(kernel: type) -> None:
    packed = Int8Weights.of(
        integers=torch.full((8, 64), 127, dtype=torch.int8),
        scale=torch.ones(1),
        zero_point=None,
        bias=torch.zeros(8),
    )
    assert torch.allclose(kernel(packed)(torch.ones(3, 64)), torch.full((3, 8), 127.0 * 64))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_type_of_the_activations_stays(kernel: type) -> None:
    assert kernel(weights(asymmetric=False, per_tensor=False))(torch.randn(2, 48).bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize("inputs", [1, 7, 8])
def test_two_integers_fit_in_a_byte(inputs: int) -> None:
    integers = torch.arange(-8, 8, dtype=torch.int8).repeat(inputs).view(16, inputs)
    packed = pack_nibbles(integers)
    assert (packed.dtype, packed.shape) == (torch.uint8, (16, (inputs + 1) // 2))
    assert torch.equal(unpack_nibbles(packed, inputs=inputs), integers)


FOUR_BITS = Quantization(bits=4, granularity=Granularity.PER_GROUP, group_size=32, activations=Activations.NONE)


def test_the_last_group_may_be_shorter() -> None:
    stored = {
        "l.weight": pack_nibbles(torch.ones(3, 40, dtype=torch.int8)),
        "l.weight_scale": torch.tensor([[0.5, 2.0]]).expand(3, 2),
        "l.bias": torch.zeros(3),
    }
    linear = read_layer(stored, "l", quantization=FOUR_BITS).linear(dtype=torch.float32, integers=False)
    assert torch.allclose(linear(torch.ones(2, 40)), torch.full((2, 3), 32 * 0.5 + 8 * 2.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l.weight": torch.zeros(3, 20, dtype=torch.int8)}, "l.weight is int8.*4 bits: uint8"),
        ({"l.weight_scale": torch.ones(3, 1)}, "aren't of groups of 32 of 40 inputs"),
        ({"l.weight_zero_point": torch.ones(3, dtype=torch.int32)}, "aren't of groups of 32 of 40 inputs"),
    ],
)
def test_what_the_manifest_does_not_say_is_refused(change: dict[str, torch.Tensor], message: str) -> None:
    stored = {"l.weight": torch.zeros(3, 20, dtype=torch.uint8), "l.weight_scale": torch.ones(3, 2), **change}
    with pytest.raises(BadVariantError, match=message):
        read_layer(stored, "l", quantization=FOUR_BITS, shape=(3, 40))
