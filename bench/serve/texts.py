"""The requests of the benchmark: WordNet's glosses, of one length or of mixed lengths."""

import random
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from bench.serve.variant import LONGEST_TOKENS
from cycle_server.load.arrivals import LengthDistribution
from cycle_server.protocol.v2 import infer_request
from cycle_server.texts import TextSource
from examples.demo_data.prepare import WORDNET, glosses

IDENTICAL_TOKENS = 64  # also the length of the project's first measurements
SHORT_TOKENS = 16
MIXED = LengthDistribution(p50=16, p99=48)  # the traffic of examples/cycleservice.yaml
DISTINCT = 400
GLOSSES = 20_000


@dataclass(frozen=True)
class Requests:
    """``texts`` and their request bodies, in the order in which they are sent, again and again."""

    texts: list[str]
    bodies: list[bytes]

    @classmethod
    def of(cls, texts: list[str]) -> "Requests":
        return cls(texts=texts, bodies=[infer_request(text) for text in texts])


@dataclass(frozen=True)
class Corpus:
    identical: Requests
    short: Requests
    mixed: Requests


def make_corpus(tokenizer_file: Path, *, seed: int = 0) -> Corpus:
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = [row["gloss"] for row, _ in zip(glosses(WORDNET), range(GLOSSES), strict=False)]
    source, lengths = TextSource(rows, tokenizer=tokenizer, seed=seed), random.Random(seed)
    return Corpus(
        identical=Requests.of([source.take(IDENTICAL_TOKENS) for _ in range(DISTINCT // 4)]),
        short=Requests.of([source.take(SHORT_TOKENS) for _ in range(DISTINCT // 4)]),
        mixed=Requests.of([source.take(min(MIXED.sample(lengths), LONGEST_TOKENS)) for _ in range(DISTINCT)]),
    )
