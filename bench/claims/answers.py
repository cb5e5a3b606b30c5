"""One request as the server computes it, from text to answer, and how good the answers are. Inside the image."""

import json
from pathlib import Path

from cycle_server.engine.causal.model import CausalEngine
from cycle_server.engine.causal.request import BLOCK_TOKENS, Chunk, Sampling
from cycle_server.engine.pipeline import Engine
from cycle_server.profiler.evaluate import evaluate
from cycle_server.profiler.rows import read_rows
from cycle_server.profiler.tokens import evaluate_tokens
from cycle_server.token_rows import RowEncoder
from cycle_wire.parts import Fields

TEXT_TOKENS = 16
NEW_TOKENS = 32
POOL_BYTES = 64 << 20


class Classifier:
    """``folder``: of a variant; ``rows_file``: what it is evaluated on."""

    metric = "accuracy"

    def __init__(self, folder: Path, rows_file: Path, *, rows: int, threads: int = 1) -> None:
        self.engine = Engine(folder, threads=threads)
        fields = Fields(text="gloss", label="supersense")
        found = read_rows(rows_file, fields=fields, kind="text", convert=str, maximum_rows=rows)
        self._truth = [row.truth for row in found]
        self._all = self.engine.pre([row.content for row in found])
        self._texts = [row.content for row, items in zip(found, self._all, strict=True) if _about(len(items))]

    def __call__(self, number: int) -> object:
        """Pre, compute and post of one text of about TEXT_TOKENS tokens."""
        items = self.engine.pre([self._texts[number % len(self._texts)]])
        return self.engine.post(self.engine.compute(items)).labels

    def quality(self) -> float:
        """Higher is better."""
        return evaluate(self.engine, self._all, self._truth, metrics=[self.metric])[0].value


def _about(tokens: int) -> bool:
    return abs(tokens - TEXT_TOKENS) <= 2


class Writer:
    """A GPT that answers with NEW_TOKENS tokens, whatever the prompt; greedy."""

    metric = "tokenAccuracy"

    def __init__(self, folder: Path, rows_file: Path, *, rows: int, threads: int = 1) -> None:
        self.engine = CausalEngine(folder, threads=threads, pool_bytes=POOL_BYTES, sequences=1)
        self.engine.prepare(tokens=2 * TEXT_TOKENS, sequences=1)
        lines = rows_file.read_text(encoding="utf-8").splitlines()[:rows]
        encoder = RowEncoder(folder)
        texts = [json_text(line) for line in lines]
        whole = encoder.texts([text for text in texts if text])
        self._rows = [piece for row in whole for piece in row.pieces(self.engine.maximum_tokens)]
        self._prompts = [text for text in texts if text]
        self._blocks = range(-(-(TEXT_TOKENS + NEW_TOKENS) // BLOCK_TOKENS))
        self._sampler = self.engine.sampler(Sampling())

    def __call__(self, number: int) -> object:
        tokens = self.engine.encode(self._prompts[number % len(self._prompts)])[:TEXT_TOKENS]
        words, position, detokenizer = list(tokens), 0, self.engine.detokenizer()
        said = []
        for _ in range(NEW_TOKENS):
            chunk = Chunk(tokens=words, position=position, blocks=self._blocks)
            (token,) = self.engine.advance([chunk], [self._sampler])
            if not isinstance(token, int):
                raise RuntimeError(f"no token: {token}")
            position += len(words)
            words = [token]
            said.append(detokenizer.add(token))
        return "".join(said) + detokenizer.rest()

    def quality(self) -> float:
        return evaluate_tokens(self.engine, self._rows, metrics=[self.metric])[0].value


def json_text(line: str) -> str:
    """Of a line of the data; empty for a chat."""
    return str(json.loads(line).get("text", ""))
