"""What is asked: texts with the declared lengths, in a known order. Inside the image."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bench.planner.validate.scenarios import (
    DISTINCT_TEXTS,
    INPUT_TOKENS_P50,
    INPUT_TOKENS_P99,
    POPULAR_TEXTS,
    PRELOADED_REQUESTS,
    Scenario,
)
from bench.serve.texts import GLOSSES
from bench.serve.variant import LONGEST_TOKENS
from cycle_server.load.arrivals import LengthDistribution, zipf
from cycle_server.protocol.v2 import infer_request
from cycle_server.texts import TextSource
from examples.demo_data.prepare import WORDNET, glosses


def rows() -> list[dict[str, str]]:
    """WordNet's glosses."""
    return [dict(row) for row, _ in zip(glosses(WORDNET), range(GLOSSES), strict=False)]


class Asked:
    """Request bodies by the number of the request. ``preloaded``: those that are asked before the load."""

    def __init__(self, scenario: Scenario, tokenizer_file: Path) -> None:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._source = TextSource([row["gloss"] for row in rows()], tokenizer=tokenizer, seed=scenario.seed)
        self._lengths = random.Random(scenario.seed)
        self._distribution = LengthDistribution(p50=INPUT_TOKENS_P50, p99=INPUT_TOKENS_P99)
        self._bodies: dict[int, bytes] = {}
        self.preloaded: list[bytes] = []
        if scenario.zipf is None:
            order = np.random.default_rng(scenario.seed).integers(0, DISTINCT_TEXTS, 1_000_000)
            self._rank: Callable[[], int] = iter(order.tolist()).__next__
        else:
            self._rank = zipf(count=POPULAR_TEXTS, exponent=scenario.zipf, seed=scenario.seed).__next__
            self.preloaded = [self._body(self._rank()) for _ in range(PRELOADED_REQUESTS)]

    def bodies(self, count: int) -> list[bytes]:
        """The next so many, made before they are needed."""
        return [self._body(self._rank()) for _ in range(count)]

    def _body(self, rank: int) -> bytes:
        if rank not in self._bodies:
            length = min(self._distribution.sample(self._lengths), LONGEST_TOKENS)
            self._bodies[rank] = infer_request(self._source.take(length))
        return self._bodies[rank]
