"""A small random translator, written as the trainer writes it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import MarianConfig, MarianMTModel

from cycle_wire.parts import Task, Variant
from cycle_wire.variant import VariantManifest
from tests.images.server.variants import DIGEST

PAD, END, UNKNOWN = 0, 1, 2
WORDS = ["<pad>", "<end>", "<unknown>", *(f"word{i}" for i in range(61))]
MAXIMUM_TOKENS = 24
END_BIAS = 4.0  # so that some translations end and some are cut


def write_translation_variant(folder: Path, *, variant: Variant) -> MarianMTModel:
    """Writes the folder in float32; returns the same model as transformers computes it."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(WORDS), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=32,
        pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=PAD, forced_eos_token_id=None, scale_embedding=True,
    )  # fmt: skip
    model = MarianMTModel(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name and "positions" not in name:
            parameter.data = torch.randn_like(parameter) * 0.3
    model.final_logits_bias[0, END] = END_BIAS
    config.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unknown>"))
    tokenizer.add_special_tokens(WORDS[:3])
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="$A <end>", special_tokens=[("<end>", END)])
    tokenizer.save(str(folder / "tokenizer.json"))
    shared = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in shared}
    save_file(weights, folder / "model.safetensors")
    manifest = VariantManifest(
        variant=variant,
        task=Task.TRANSLATION,
        model_digest=DIGEST,
        weights_digest=f"sha256:{hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()}",
        size_bytes=(folder / "model.safetensors").stat().st_size,
        parameters=sum(p.numel() for p in model.parameters()),
        sparsity=0.0,
        maximum_sequence_length=MAXIMUM_TOKENS,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return model


def translated_by(model: MarianMTModel, tokens: Sequence[int], *, limit: int) -> list[int]:
    """As transformers decodes a text by itself, without the start and the end."""
    made = model.generate(
        torch.tensor([tokens]), max_new_tokens=limit, num_beams=1, do_sample=False, suppress_tokens=[PAD]
    )
    return [token for token in made[0].tolist()[1:] if token != END]
