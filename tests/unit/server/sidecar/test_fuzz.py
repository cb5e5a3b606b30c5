"""A short run of bench/cache/fuzz.py: no request ever gets an answer of another input, tenant or version."""

import pytest

from bench.cache.fuzz import fuzz
from cycle_wire.serving import CachePolicy


@pytest.mark.parametrize(
    "policies",
    [
        (CachePolicy.LRU, CachePolicy.FIFO),
        (CachePolicy.LFU, CachePolicy.S3FIFO),
        (CachePolicy.W_TINY_LFU, CachePolicy.LRU),
    ],
    ids="-".join,
)
async def test_nobody_gets_anothers_answer(policies: tuple[CachePolicy, CachePolicy]) -> None:
    result = await fuzz(requests=2_500, seed=7, policies=policies)
    assert result.wrong == []
    assert result.seen["hit 200"] > 200
    assert result.seen["miss 200"] > 200
    assert result.seen["bypass 400"] > 50
    assert result.seen["gRPC hit 200"] > 30
    assert result.seen["gRPC miss 200"] > 50
