"""Small random causal language models with a real tokenizer, written as the trainer writes them."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from cycle_wire.parts import Precision, Task, Variant
from cycle_wire.variant import VariantManifest
from tests.images.server.integers import quantized, restored
from tests.images.server.variants import DIGEST

TEXTS = [
    "The cat runs up the tree and looks at the sky. A small dog barks at it, again and again.",
    "Once upon a time there was a large blue bear who liked honey; he said: ‘Where is it?’",
    "Grüße aus München, 犬と猫 — and so on, 1234 times.",
]
CONTEXT = 160
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>")


def config(family: str, *, vocabulary: int, end: int) -> Any:
    ends = {"eos_token_id": end, "bos_token_id": None, "pad_token_id": None}
    if family == "gpt2":
        return GPT2Config(vocab_size=vocabulary, n_embd=64, n_layer=2, n_head=4, n_positions=CONTEXT, **ends)
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
    }
    if family == "llama":
        return LlamaConfig(**shape, **ends, tie_word_embeddings=True)
    return CONFIG_MAPPING[family](
        **shape, **ends, head_dim=16, **({"sliding_window": None} if family == "mistral" else {})
    )


def write_causal(
    folder: Path,
    *,
    variant: Variant,
    family: str = "llama",
    chat: bool = True,
    ends: bool = False,
    seed: int = 0,
) -> Any:
    """Writes the folder; returns the same model as transformers computes it in float32, with rounded weights.

    ``ends``: the end token ends answers; else, since random weights say it anywhere, all have their full length.
    """
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    made = tokenizer()
    if chat:
        made.chat_template = TEMPLATE
    made.save_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config(family, vocabulary=len(made), end=made.eos_token_id)).eval()
    for parameter in model.parameters():  # larger than usual, so that the likeliest token stands out
        if parameter.dim() > 1:
            parameter.data = torch.randn_like(parameter) * 0.2
    if not ends:
        model.generation_config.eos_token_id = [len(made) + 1]  # one that is never said
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    layers: list[str] = []
    if variant.quantization is not None:
        layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D) and n != "lm_head"]
        for name in layers:
            weights.update(quantized(name, _weight(model.get_submodule(name)).contiguous(), variant.quantization))
    if variant.precision is Precision.BFLOAT16:
        scales = {name: tensor for name, tensor in weights.items() if name.endswith("_scale")}
        halves = {name: t.bfloat16() if t.is_floating_point() else t for name, t in weights.items()}
        weights = {**halves, **scales}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    data = (folder / "model.safetensors").read_bytes()
    manifest = VariantManifest(
        variant=variant,
        task=Task.LANGUAGE_MODELING,
        model_digest=DIGEST,
        weights_digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        size_bytes=len(data),
        parameters=sum(p.numel() for p in model.parameters()),
        sparsity=0.0,
        quantized_layers=layers,
        maximum_sequence_length=CONTEXT,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    _round_weights(model, weights)
    return model


def _weight(module: Any) -> torch.Tensor:
    weight: torch.Tensor = module.weight.data.t() if isinstance(module, Conv1D) else module.weight.data
    return weight


def _round_weights(model: Any, stored: dict[str, torch.Tensor]) -> None:
    """Gives the float model the weights that the file stands for."""
    state = {}
    for name, tensor in stored.items():
        if name.endswith(("_scale", "_zero_point")):
            continue
        value = tensor.float()
        if f"{name}_scale" in stored:
            layer = name.removesuffix(".weight")
            value = restored(layer, stored)
            if isinstance(model.get_submodule(layer), Conv1D):
                value = value.t()
        state[name] = value
    model.load_state_dict(state, strict=False)
    model.tie_weights()
