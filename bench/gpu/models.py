"""Variants with the shapes of well-known models and random weights: times don't depend on a dense weight's value."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from cycle_server.engine.load import DTYPES
from cycle_server.engine.model import EncoderClassifier
from cycle_wire.parts import Precision, Task, Variant
from cycle_wire.variant import VariantManifest

DIGEST = "sha256:" + "0" * 64
CLASSES = 45
ENCODERS = {
    "bert-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "minilm-l6": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
}
DECODERS = {"gpt2-small": {"n_embd": 768, "n_layer": 12, "n_head": 12}}


@dataclass(frozen=True)
class Place:
    model: str
    precision: Precision

    def within(self, folder: Path) -> Path:
        return folder / f"{self.model}-{self.precision.lower()}"


def write_all(folder: Path, models: Sequence[str], precisions: Sequence[Precision]) -> None:
    for model in models:
        torch.manual_seed(0)
        made = _encoder(model) if model in ENCODERS else GPT2LMHeadModel(GPT2Config(**DECODERS[model]))
        for precision in precisions:
            _write(Place(model, precision).within(folder), made, precision)


def _encoder(model: str) -> EncoderClassifier:
    return EncoderClassifier(BertModel(BertConfig(**ENCODERS[model]), add_pooling_layer=False), classes=CLASSES)


def _write(folder: Path, model: torch.nn.Module, precision: Precision) -> None:
    folder.mkdir(parents=True)
    encodes = isinstance(model, EncoderClassifier)
    model.config.save_pretrained(folder)
    state = {name: t for name, t in model.state_dict().items() if name != "lm_head.weight"}  # tied
    weights = {n: t.to(DTYPES[precision]).contiguous() if t.is_floating_point() else t for n, t in state.items()}
    save_file(weights, folder / "model.safetensors")
    vocabulary = model.config.vocab_size
    if encodes:
        _word_pieces(vocabulary).save(str(folder / "tokenizer.json"))
    else:
        _bytes(vocabulary).save_pretrained(folder)
    data = (folder / "model.safetensors").read_bytes()
    manifest = VariantManifest(
        variant=Variant(name="v", precision=precision),
        task=Task.TEXT_CLASSIFICATION if encodes else Task.LANGUAGE_MODELING,
        model_digest=DIGEST,
        weights_digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        size_bytes=len(data),
        parameters=sum(p.numel() for p in model.parameters()),
        sparsity=0.0,
        labels=[f"class.{i}" for i in range(CLASSES)] if encodes else [],
        maximum_sequence_length=512,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


def words(count: int) -> list[str]:
    """Different pronounceable ones, short before long."""
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprstvz", "aeiou")]
    all_lengths = ("".join(parts) for n in itertools.count(1) for parts in itertools.product(syllables, repeat=n))
    return list(itertools.islice(all_lengths, count))


def _word_pieces(vocabulary: int) -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    known = {word: i for i, word in enumerate([*special, *words(vocabulary - len(special))])}
    tokenizer = Tokenizer(WordPiece(known, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _bytes(vocabulary: int) -> PreTrainedTokenizerFast:
    """A token for each byte, and words that are never made from them to fill the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = {word: i for i, word in enumerate([*alphabet, *words(vocabulary)][: vocabulary - len(alphabet)])}
    known = {**known, **{f"<{i}>": i for i in range(len(known), vocabulary)}}
    tokenizer = Tokenizer(BPE(known, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
