"""Both integer kernels against the float product of the same weights."""

import pytest
import torch

from cycle_server.engine.quantized import FbgemmInt8Linear, Int8Weights, PortableInt8Linear

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
