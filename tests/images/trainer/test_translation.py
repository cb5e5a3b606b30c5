"""Translators: two ranks that train one from nothing, its variants in the engine that serves, baselines, bad input."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from cycle_server.engine.model import read_weights
from cycle_server.engine.translation import TranslationEngine
from cycle_server.translations import score
from cycle_trainer import compress
from cycle_trainer.baselines.sentences import sentence_baselines
from cycle_trainer.data import Pair
from cycle_trainer.failures import BadInputError
from cycle_trainer.families import encoder_decoder
from cycle_trainer.files import digest_of
from cycle_trainer.tasks import task_of
from cycle_trainer.tasks.translation import Translation
from cycle_wire.reports import Baseline
from cycle_wire.variant import LayerShape, VariantManifest
from tests.images.trainer.conftest import Ranks
from tests.images.trainer.tiny import Workplace, write_rows
from tests.images.trainer.tiny_translation import make_translation, translation_rows, write_translator

INT8 = {"bits": 8, "scheme": "Symmetric", "granularity": "PerChannel", "activations": "Dynamic"}
VARIANTS: list[dict[str, Any]] = [
    {"name": "fp32"},
    {"name": "bf16", "precision": "BFloat16"},
    {"name": "int8", "quantization": INT8},
    {"name": "int8-weights", "quantization": {**INT8, "scheme": "Asymmetric", "activations": "None"}},
    {"name": "pruned", "pruning": {"structure": "Structured", "sparsity": "0.5", "recoverySteps": 30}},
    {"name": "masked-int8", "pruning": {"structure": "Unstructured", "sparsity": "0.3"}, "quantization": INT8},
]


@pytest.fixture
def phrases(workplace: Workplace) -> Workplace:
    make_translation(workplace)
    return workplace


def test_two_ranks_learn_to_translate_and_every_variant_is_what_it_says(phrases: Workplace, ranks: Ranks) -> None:
    phrases.spec["training"] |= {"maximumSteps": 200}
    phrases.spec["checkpoint"]["everySteps"] = 1000
    done = ranks()
    assert done.returncode == 0, done.stdout + done.stderr
    (trained,) = phrases.operator.messages("Trained")
    assert trained.from_random_weights and trained.labels == 0 and trained.train_rows == 480
    guessing = math.log(encoder_decoder.read_config(phrases.folder / "model").vocab_size)
    assert trained.final_loss < 0.1 * guessing
    phrases.spec |= {"modelDigest": trained.digest, "variants": VARIANTS}
    config = phrases.write_config()
    compress.run(config)
    baselines = {entry.name: chrf_of(entry) for entry in phrases.operator.messages("Baselines")[0].baselines}
    assert baselines["copy"] < 0.3 < baselines["nearestText"] < 0.9
    manifests = {m.variant.name: m for m in phrases.operator.messages("Variants")[0].manifests}
    check_manifests(phrases, manifests)
    rows = [(row["text"], row["translation"]) for row in translation_rows(60, offset=1000)]
    texts, references = [text for text, _ in rows], [translation for _, translation in rows]
    for name in manifests:
        translations = served_by(folder_of(phrases, name), texts)
        (quality,) = score(["chrf"], translations=translations, references=references)
        assert quality.value > baselines["nearestText"] + 0.05, name
    assert served_by(folder_of(phrases, "fp32"), texts[:8]) == generated_by(folder_of(phrases, "fp32"), config, 8)


def folder_of(workplace: Workplace, name: str) -> Path:
    return workplace.output / str(workplace.spec["modelDigest"]).replace(":", "-") / "variants" / name


def chrf_of(baseline: Baseline) -> float:
    (value,) = (metric.value for metric in baseline.metrics if metric.name == "chrf")
    return value


def served_by(folder: Path, texts: Sequence[str]) -> list[str]:
    try:
        engine = TranslationEngine(folder, threads=1)
        return engine.post(engine.compute(engine.pre(texts)))
    finally:
        torch.set_grad_enabled(True)  # a process that serves has no gradients, this one trains on


def generated_by(folder: Path, config: Any, count: int) -> list[str]:
    """By transformers alone."""
    task = Translation(config)
    batch = task.padded(task.encode(task.evaluation[:count]))
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    made = model.generate(
        batch.inputs["input_ids"], attention_mask=batch.inputs["attention_mask"], max_new_tokens=16, num_beams=1
    )
    tokenizer = TranslationEngine(folder, threads=1).tokenizer
    torch.set_grad_enabled(True)
    return tokenizer.decode_batch(made.tolist())


def check_manifests(place: Workplace, manifests: dict[str, VariantManifest]) -> None:
    assert list(manifests) == [variant["name"] for variant in VARIANTS]
    for name, manifest in manifests.items():
        folder = folder_of(place, name)
        assert digest_of(folder / "model.safetensors") == manifest.weights_digest
        assert manifest.labels == [] and manifest.task == "Translation"
        assert {"config.json", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert {tensor.dtype for tensor in read_weights(folder_of(place, "bf16")).values()} == {torch.bfloat16}
    for name in ("int8", "int8-weights", "masked-int8"):
        stored = read_weights(folder_of(place, name))
        integers = sorted(key for key, tensor in stored.items() if tensor.dtype is torch.int8)
        assert integers == sorted(f"{layer}.weight" for layer in manifests[name].quantized_layers)
        assert len(integers) == 2 * 6 + 2 * 10  # four projections and two layers of neurons; four more that cross over
    assert manifests["masked-int8"].sparsity == pytest.approx(0.3, abs=0.01)
    pruned = manifests["pruned"]
    assert pruned.layers == [LayerShape(heads=4, intermediate_size=32)] * 4
    assert pruned.parameters < manifests["fp32"].parameters and pruned.recovery_steps == 30
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder_of(place, "pruned"))
    assert {layer.fc1.out_features for layer in plain.model.decoder.layers} == {32}


def test_padding_changes_no_answer_and_teaches_nothing(phrases: Workplace) -> None:
    task = Translation(phrases.write_config())
    torch.manual_seed(0)
    model = task.pretrained().eval()
    rows = task.training[:6]
    with torch.no_grad():
        together = float(task.loss(model, task.padded(rows)))
        weighted = [(float(task.loss(model, task.padded([row]))), len(row.target)) for row in rows]
    alone = sum(loss * count for loss, count in weighted) / sum(count for _, count in weighted)
    assert together == pytest.approx(alone, rel=1e-5)


def test_cutting_what_contributes_nothing_changes_no_answer(phrases: Workplace, tmp_path: Path) -> None:
    """Every other neuron gives zero; the plain smaller model says the same."""
    task = Translation(phrases.write_config())
    model = task.pretrained().eval()
    batch = task.padded(task.training[:4])
    with torch.no_grad():
        for layer in (*model.model.encoder.layers, *model.model.decoder.layers):
            layer.fc2.weight[:, ::2] = 0
        before = model(**batch.inputs).logits
        encoder_decoder.prune(model, sparsity=0.5)
        model.save_pretrained(tmp_path / "smaller")
        smaller: PreTrainedModel = encoder_decoder.load(tmp_path / "smaller")
        torch.testing.assert_close(smaller(**batch.inputs).logits, before, rtol=1e-4, atol=1e-5)
    assert encoder_decoder.shapes(smaller) == [LayerShape(heads=4, intermediate_size=32)] * 4


def test_a_pretrained_model_is_where_training_starts(phrases: Workplace) -> None:
    folder = phrases.folder / "model"
    torch.manual_seed(7)
    published = encoder_decoder.random_model(encoder_decoder.read_config(folder))
    published.save_pretrained(folder)
    task = Translation(phrases.write_config())
    assert not task.starts_from_random_weights
    for name, tensor in task.pretrained().state_dict().items():
        torch.testing.assert_close(tensor, published.state_dict()[name], msg=name)


def test_baselines_copy_and_look_up() -> None:
    rows = [Pair(text="old dogs", translation="alte Hunde"), Pair(text="young cats", translation="junge Katzen")]
    asked = [Pair(text="young cats sleep", translation="junge Katzen schlafen")]
    copy, near = sentence_baselines(rows, asked, metrics=["chrf", "bleu"])
    assert [metric.name for metric in near.metrics] == ["chrf", "bleu"]
    assert near.metrics == score(["chrf", "bleu"], translations=["junge Katzen"], references=["junge Katzen schlafen"])
    assert chrf_of(copy) < 0.3 < chrf_of(near) < 1
    assert chrf_of(sentence_baselines(rows, rows, metrics=["chrf"])[1]) == 1
    wordless = [Pair(text="!", translation="!")]
    assert chrf_of(sentence_baselines(wordless, wordless, metrics=["chrf"])[1]) == 1


def _unknown_metric(workplace: Workplace) -> None:
    workplace.spec["evaluation"] = {"metrics": ["accuracy"]}
    Translation(workplace.write_config()).baselines(range(10))


def _rewrite_config(workplace: Workplace, **changes: object) -> None:
    path = workplace.folder / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _endless(workplace: Workplace) -> None:
    path = workplace.folder / "model" / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": None}))


def _second_row(workplace: Workplace, **changes: object) -> None:
    first, second, *rest = translation_rows(5)
    write_rows(workplace.folder / "train.jsonl", [first, {**second, **changes}, *rest])


BAD_INPUTS: dict[str, tuple[Callable[[Workplace], object], str, str, str]] = {
    "empty": (
        lambda w: write_rows(w.folder / "evaluation.jsonl", []),
        "BadData", "spec.data.evaluation", "has no rows",
    ),
    "field": (
        lambda w: w.spec.update(fields={"translation": "german"}),
        "BadData", "spec.data.fields.translation", "line 1: there is no field 'german'; the line has: text",
    ),
    "text": (
        lambda w: _second_row(w, text=" "),
        "BadData", "spec.data.fields.text", "line 2: field 'text' must be a text that isn't empty",
    ),
    "translation": (
        lambda w: _second_row(w, translation=["zwei"]),
        "BadData", "spec.data.fields.translation", "line 2: field 'translation' must be a text",
    ),
    "metric": (_unknown_metric, "UnknownMetric", "spec.evaluation.metrics", "no metric accuracy; there are chrf, bleu"),
    "length": (
        lambda w: w.spec["training"].update(maximumSequenceLength=64),
        "BadSequenceLength", "spec.training.maximumSequenceLength", "at most 32 tokens",
    ),
    "family": (
        lambda w: _rewrite_config(w, model_type="t5"),
        "ModelUnsupported", "spec.model.uri", "'t5' is not marian",
    ),
    "tokens": (
        lambda w: write_translator(w.folder / "model", decoder_start_token_id=1000),
        "ModelUnsupported", "spec.model.uri", "decoder_start_token_id is 1000",
    ),
    "embeddings": (
        lambda w: _rewrite_config(w, share_encoder_decoder_embeddings=False),
        "ModelUnsupported", "spec.model.uri", "must share their embeddings",
    ),
    "vocabulary": (
        lambda w: _rewrite_config(w, vocab_size=20),
        "ModelUnsupported", "spec.model.uri", "vocab_size is 20",
    ),
    "end": (_endless, "ModelUnsupported", "spec.model.uri", "doesn't end a text with the config's eos_token_id"),
    "tokenizer": (
        lambda w: (w.folder / "model" / "tokenizer.json").write_text("{}"),
        "ModelUnreadable", "spec.model.uri", "tokenizer.json",
    ),
    "model": (lambda w: w.spec.update(modelPath="/nowhere"), "ModelNotFound", "spec.model.uri", "no folder /nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_INPUTS)
def test_bad_input_names_the_field(phrases: Workplace, what: str) -> None:
    spoil, reason, field, words = BAD_INPUTS[what]
    with pytest.raises(BadInputError) as caught:
        spoil(phrases)
        task_of(phrases.write_config())
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert words in caught.value.message
