"""Writes the data and the model's folder of the example that translates.

    DATA/descriptions/train.jsonl        {"text": "program to play chess", "translation": "Schachprogramm"}
    DATA/descriptions/evaluation.jsonl
    MODELS/descriptions-marian/          a Marian of 1.4 million parameters: config and tokenizer, no weights

The texts are the descriptions of Debian's packages and their German translations by Debian's translators, as apt
fetches them with Acquire::Languages (Translation-en and Translation-de): titles, and paragraphs of at most LONGEST
characters where both languages have as many. Packages of one family have nearly the same description, so all texts of
those whose titles begin alike are on one side: in the evaluation file when the first 64 bits of the SHA-256 of that
beginning are divisible by 20. Both files are sorted by the hash of the text.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.demo_data.dictionary import tokenizer_json
from examples.demo_data.prepare import Row, lines_of, write

DESCRIPTIONS = Path("/usr/local/share/descriptions")
ENGLISH, GERMAN = "en", "de"
LONGEST = 100  # characters of a paragraph
EVALUATION_SHARE = 20  # one family in so many
FAMILY = re.compile(r"\s*[(\[,:;]|\s+-+\s")  # what comes before is the family's
MODEL = "descriptions-marian"
PAD, END = "<|pad|>", "<|end|>"
SPECIAL_TOKENS = (PAD, END)
VOCABULARY = 4096
MODEL_CONFIG: dict[str, Any] = {
    "architectures": ["MarianMTModel"],
    "model_type": "marian",
    "vocab_size": VOCABULARY,
    "decoder_vocab_size": VOCABULARY,
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "activation_function": "relu",
    "dropout": 0.0,
    "max_position_embeddings": 256,
    "scale_embedding": True,
    "share_encoder_decoder_embeddings": True,
    "tie_word_embeddings": True,
    "pad_token_id": SPECIAL_TOKENS.index(PAD),
    "eos_token_id": SPECIAL_TOKENS.index(END),
    "decoder_start_token_id": SPECIAL_TOKENS.index(PAD),
    "forced_eos_token_id": None,
    "bos_token_id": None,
}


@dataclass(frozen=True)
class Description:
    """``digest`` is of the English one, whatever the language."""

    digest: str
    title: str
    paragraphs: list[str]


def descriptions(text: str, *, language: str) -> Iterator[Description]:
    """Of a file Translation-LANGUAGE (wiki.debian.org/DebianRepository/Format)."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
        title = fields.get(f"Description-{language}")
        if title is None or "Description-md5" not in fields:
            continue
        lines = [line[1:] for line in block.splitlines() if line.startswith(" ")]
        yield Description(digest=fields["Description-md5"], title=title, paragraphs=_paragraphs(lines))


def _paragraphs(lines: Iterable[str]) -> list[str]:
    """An empty line is a full stop; what is indented further is a list or a table, and no paragraph."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line == ".":
            found.append([])
        else:
            found[-1].append(line)
    return ["" if any(line.startswith(" ") for line in part) else " ".join(part) for part in found]


def pairs(english: Iterable[Description], german: Iterable[Description]) -> Iterator[tuple[str, Row]]:
    """(family, row), each text once: the first of equals stays."""
    known = {one.digest: one for one in english}
    seen: set[str] = set()
    for translated in german:
        original = known.get(translated.digest)
        if original is None:
            continue
        texts = [(original.title, translated.title)]
        if len(original.paragraphs) == len(translated.paragraphs):
            texts += zip(original.paragraphs, translated.paragraphs, strict=True)
        for text, translation in texts:
            if text and translation and max(len(text), len(translation)) <= LONGEST and text not in seen:
                seen.add(text)
                yield FAMILY.split(original.title, maxsplit=1)[0].lower(), {"text": text, "translation": translation}


def hash_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def split(rows: Iterable[tuple[str, Row]]) -> tuple[list[Row], list[Row]]:
    """(training, evaluation)."""
    ordered = sorted(rows, key=lambda row: hash_of(row[1]["text"]))
    training = [row for family, row in ordered if hash_of(family) % EVALUATION_SHARE]
    return training, [row for family, row in ordered if not hash_of(family) % EVALUATION_SHARE]


def write_descriptions(*, models: Path, data: Path, source: Path = DESCRIPTIONS) -> None:
    """``source`` has Translation-en.gz and Translation-de.gz."""
    languages = [
        descriptions(gzip.decompress((source / f"Translation-{name}.gz").read_bytes()).decode(), language=name)
        for name in (ENGLISH, GERMAN)
    ]
    training, evaluation = split(pairs(*languages))
    write(data / "descriptions" / "train.jsonl", lines_of(training))
    write(data / "descriptions" / "evaluation.jsonl", lines_of(evaluation))
    print(f"{len(training)} training pairs, {len(evaluation)} evaluation pairs")
    folder = models / MODEL
    both = (text for row in training for text in row.values())
    write(folder / "tokenizer.json", tokenizer_json(both, special_tokens=SPECIAL_TOKENS, end=END))
    write(folder / "config.json", (json.dumps(MODEL_CONFIG, indent=2) + "\n").encode())
