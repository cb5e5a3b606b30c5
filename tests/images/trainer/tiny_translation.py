"""A tiny translator without weights, and phrases in two languages, word by word."""

from itertools import product
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import MarianConfig

from tests.images.trainer.tiny import Workplace, write_rows

SPECIAL = ["<pad>", "<end>", "<unknown>"]
WORDS = [
    {"two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "many": "viele", "few": "wenige"},
    {"blue": "blaue", "old": "alte", "young": "junge", "small": "kleine", "quick": "schnelle", "white": "weiße"},
    {"dogs": "Hunde", "cats": "Katzen", "horses": "Pferde", "cows": "Kühe", "birds": "Vögel", "bears": "Bären"},
    {"sleep": "schlafen", "eat": "fressen", "run": "laufen", "drink": "trinken", "wait": "warten"},
    {"today": "heute", "here": "hier", "outside": "draußen", "alone": "allein", "now": "jetzt"},
]
PHRASES = [list(phrase) for phrase in product(*WORDS)]
STRIDE = 1001  # has no factor in common with the number of phrases: a walk through all of them


def translation_rows(count: int, *, offset: int = 0) -> list[dict[str, Any]]:
    """Different phrases of three to five words."""
    rows = []
    for number in range(offset, offset + count):
        phrase = PHRASES[number * STRIDE % len(PHRASES)][: 3 + number % 3]
        said = [words[word] for words, word in zip(WORDS, phrase, strict=False)]
        rows.append({"text": " ".join(phrase), "translation": " ".join(said)})
    return rows


def write_translator(folder: Path, **changes: Any) -> None:
    """Configuration and tokenizer, which ends every text, in an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    words = [word for pairs in WORDS for both in pairs.items() for word in both]
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    shape = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    more = {"vocab_size": len(vocabulary), "max_position_embeddings": 32, "dropout": 0.0, "scale_embedding": True}
    MarianConfig(**{**shape, **heads, **tokens, **more, **changes}).save_pretrained(folder)


def make_translation(workplace: Workplace) -> None:
    """Turn a workplace of text classification into one of translation."""
    folder = workplace.folder
    write_translator(folder / "model")
    write_rows(folder / "train.jsonl", translation_rows(480))
    write_rows(folder / "evaluation.jsonl", translation_rows(60, offset=1000))
    workplace.spec["task"] = "Translation"
    workplace.spec["training"] |= {"learningRate": "3e-3", "maximumSequenceLength": 16}
