"""Writes the data and the model's folder of the example that trains a language model.

    DATA/dictionary/train.jsonl        {"text": "dog: a domestic animal"} or a chat, one WordNet synset a line
    DATA/dictionary/evaluation.jsonl
    MODELS/dictionary-llama/           a Llama of 4 million parameters: config and tokenizer, no weights

Of the synsets half are texts, half are chats in which a user asks what a word means; which, says the gloss's hash. The
split is that of prepare.py. The tokenizer is byte-level BPE, trained on the training rows.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from examples.demo_data.prepare import Row, hash_of, lines_of, split, synsets, write

MODEL = "dictionary-llama"
VOCABULARY = 4096
PAD, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
SPECIAL_TOKENS = (PAD, END, USER, ASSISTANT, SYSTEM)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message.role + '|>' + message.content + eos_token -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
MODEL_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "pad_token_id": SPECIAL_TOKENS.index(PAD),
    "bos_token_id": None,
    "eos_token_id": SPECIAL_TOKENS.index(END),
}
QUESTIONS = {
    "n": "What is {article} {word}?",
    "v": "What does it mean to {word}?",
    "a": "What does {word} mean?",
    "s": "What does {word} mean?",
    "r": "What does {word} mean?",
}


def entries(folder: Path) -> Iterator[Row]:
    """Word, part of speech and gloss of every synset."""
    for fields, gloss in synsets(folder):
        _, _, kind, _, word, *_ = fields
        yield {"word": word.split("(")[0].replace("_", " "), "kind": kind, "gloss": gloss}


def lesson(entry: Row) -> dict[str, Any]:
    """The line of the data file: a text, or a chat."""
    word, gloss = entry["word"], entry["gloss"]
    if hash_of(entry) >> 8 & 1:
        return {"text": f"{word}: {gloss}"}
    article = "an" if word[0].lower() in "aeiou" else "a"
    question = QUESTIONS[entry["kind"]].format(word=word, article=article)
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": gloss}]}


def tokenizer_json(
    texts: Iterable[str], *, special_tokens: Sequence[str] = SPECIAL_TOKENS, end: str | None = None
) -> bytes:
    """Byte-level BPE: every text can be written in its tokens. ``end``: the special token that it puts behind each."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # only where data is made

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if end is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
        )
    made: str = tokenizer.to_str(pretty=False)
    return made.encode()


def texts_of(lessons: Iterable[dict[str, Any]]) -> Iterator[str]:
    for item in lessons:
        if "text" in item:
            yield item["text"]
        else:
            yield from (message["content"] for message in item["messages"])


def write_dictionary(*, models: Path, data: Path, wordnet: Path) -> None:
    parts = split(entries(wordnet))
    training, evaluation = ([lesson(entry) for entry in part] for part in parts)
    write(data / "dictionary" / "train.jsonl", lines_of(training))
    write(data / "dictionary" / "evaluation.jsonl", lines_of(evaluation))
    folder = models / MODEL
    write(folder / "tokenizer.json", tokenizer_json(texts_of(training)))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": END,
        "model_max_length": MODEL_CONFIG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }
    write(folder / "tokenizer_config.json", _json(settings))
    write(folder / "config.json", _json(MODEL_CONFIG))
    write(folder / "chat_template.jinja", CHAT_TEMPLATE.encode())


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
