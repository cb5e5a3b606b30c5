"""Small random variants with a real tokenizer, written as the trainer writes them."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel

from cycle_server.engine.model import EncoderClassifier, build
from cycle_wire.parts import Precision, Task, Variant
from cycle_wire.variant import LayerShape, VariantManifest
from tests.images.server.integers import quantized, restored

WORDS = ["a", "the", "cat", "dog", "runs", "small", "large", "tree", "of", "with", "##s", "##ing", "sky", "blue", "on"]
LABELS = [f"class.{i}" for i in range(5)]
HEAD_SIZE = 16
DIGEST = "sha256:" + "a" * 64


def write_tokenizer(folder: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def small_config() -> BertConfig:
    return BertConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=4 * HEAD_SIZE,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def write_variant(
    folder: Path,
    *,
    variant: Variant,
    layers: list[LayerShape] | None = None,
    seed: int = 0,
) -> EncoderClassifier:
    """Writes the folder; returns the same model as transformers computes it in float32, with rounded weights."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    config = small_config()
    config.save_pretrained(folder)
    if layers:
        model = build(folder, classes=len(LABELS), layers=layers)
    else:
        model = EncoderClassifier(BertModel(config, add_pooling_layer=False), classes=len(LABELS))
    model.eval()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.15
    for module in model.modules():  # so that answers differ clearly between texts
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data += 1.0
    model.encoder.embeddings.word_embeddings.weight.data *= 10
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    integers: list[str] = []
    if variant.quantization is not None:
        integers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and ".layer." in n]
        for name in integers:
            weights.update(quantized(name, weights[f"{name}.weight"], variant.quantization))
    if variant.precision is Precision.BFLOAT16:
        weights = {n: t.bfloat16() if t.is_floating_point() else t for n, t in weights.items()}
    save_file(weights, folder / "model.safetensors")
    write_tokenizer(folder)
    manifest = VariantManifest(
        variant=variant,
        task=Task.TEXT_CLASSIFICATION,
        model_digest=DIGEST,
        weights_digest=f"sha256:{hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()}",
        size_bytes=(folder / "model.safetensors").stat().st_size,
        parameters=sum(p.numel() for p in model.parameters()),
        sparsity=0.0,
        layers=layers or [],
        quantized_layers=integers,
        labels=LABELS,
        maximum_sequence_length=48,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    _round_weights(model, folder)
    return model


def _round_weights(model: EncoderClassifier, folder: Path) -> None:
    """Gives the float model the weights that the file stands for."""
    stored = load_file(folder / "model.safetensors")
    state = {}
    for name in model.state_dict():
        is_integers = f"{name}_scale" in stored
        state[name] = restored(name.removesuffix(".weight"), stored) if is_integers else stored[name].float()
    model.load_state_dict(state)
