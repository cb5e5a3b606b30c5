"""Tiny causal language models without weights, and texts and chats that follow a rule."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.images.trainer.tiny import Workplace, write_rows

WORDS = [f"word{i}" for i in range(24)]
SPECIAL = ["<unknown>", "<user>", "<assistant>", "<end>"]
STEPS = (1, 5, 7)
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
INT8 = {"bits": 8, "scheme": "Symmetric", "granularity": "PerChannel", "activations": "Dynamic"}


def write_tokenizer(folder: Path, *, template: str | None = TEMPLATE) -> None:
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unknown>", eos_token="<end>")
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)


def llama(**changes: Any) -> LlamaConfig:
    """Four heads, of which two each share keys and values."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    more = {"intermediate_size": 64, "max_position_embeddings": 32, "vocab_size": len(SPECIAL) + len(WORDS)}
    return LlamaConfig(**{**shape, **more, "tie_word_embeddings": True, "eos_token_id": 3, **changes})


def gpt2(**changes: Any) -> GPT2Config:
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": len(SPECIAL) + len(WORDS)}
    return GPT2Config(**{**shape, "bos_token_id": 3, "eos_token_id": 3, **changes})


def write_causal_model(folder: Path, *, family: str = "llama", weights: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    config = llama() if family == "llama" else gpt2()
    if weights:
        torch.manual_seed(7)
        model = (LlamaForCausalLM if family == "llama" else GPT2LMHeadModel)(config)
        model.save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    write_tokenizer(folder)


def text_of(number: int) -> str:
    """Each word is a fixed step after the one before: two words say which step, so two words say all."""
    step = STEPS[number % len(STEPS)]
    return " ".join(WORDS[(number * 11 + place * step) % len(WORDS)] for place in range(6 + number % 5))


def language_rows(count: int, *, offset: int = 0) -> list[dict[str, Any]]:
    """Every other row is a chat: the user says the beginning, the assistant goes on."""
    rows: list[dict[str, Any]] = []
    for number in range(offset, offset + count):
        words = text_of(number).split()
        if number % 2:
            rows.append({"text": " ".join(words)})
            continue
        begin, rest = " ".join(words[:2]), " ".join(words[2:])
        rows.append({"messages": [{"role": "user", "content": begin}, {"role": "assistant", "content": rest}]})
    return rows


def make_causal(workplace: Workplace, *, family: str = "llama", weights: bool = False) -> None:
    """Turn a workplace of text classification into one of language modelling."""
    folder = workplace.folder
    write_causal_model(folder / "model", family=family, weights=weights)
    write_rows(folder / "train.jsonl", language_rows(600))
    write_rows(folder / "evaluation.jsonl", language_rows(60, offset=1000))
    workplace.spec["task"] = "LanguageModeling"
    workplace.spec["training"] |= {"learningRate": "1e-2", "maximumSequenceLength": 32}
