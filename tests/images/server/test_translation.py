"""A real server of translations: every protocol's answers are transformers' own, and a profile reaches the operator."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import MarianMTModel

from cycle_server.engine.stages import NO_TOKEN
from cycle_server.engine.translation import TranslationEngine
from cycle_server.errors import BadVariantError
from cycle_server.profiler.translation import translated
from cycle_server.translations import score
from cycle_wire.parts import Evaluation, Fields, Variant
from cycle_wire.profile import Pace
from cycle_wire.reports import EXIT_BAD_INPUT, FailureReport, ProfileReport
from cycle_wire.serving import ProfileVariant, ProfilingConfig
from tests.images.server.serving import Running, serving
from tests.images.server.test_profile import Endpoint, endpoint, profiled, run
from tests.images.server.translation_variants import (
    MAXIMUM_TOKENS,
    WORDS,
    translated_by,
    write_translation_variant,
)
from tests.images.server.variants import DIGEST

__all__ = ["endpoint"]
TEXTS = [" ".join(WORDS[3 + (7 * n + 5 * place) % 61] for place in range(1 + n % 7)) for n in range(20)]
INFER = "/v2/models/m/infer"


@pytest.fixture(scope="module")
def model_and_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], Running]]:
    """What transformers says of TEXTS; and a server with two workers, to which the front hands texts over."""
    folder = tmp_path_factory.mktemp("variants") / "v"
    model = write_translation_variant(folder, variant=Variant(name="v"))
    expected = expected_of(model, TranslationEngine(folder, threads=1))
    with serving(folder, maximum_batch_size=4, budget_milliseconds=60_000, workers=2) as running:
        yield expected, running


def expected_of(model: MarianMTModel, engine: TranslationEngine) -> list[str]:
    tokens = [translated_by(model, ids, limit=engine.limit(len(ids))) for ids in engine.pre(TEXTS)]
    return [engine.tokenizer.decode(ids) for ids in tokens]


def test_a_batch_is_decoded_as_transformers_decodes_each_text(tmp_path: Path) -> None:
    model = write_translation_variant(tmp_path / "v", variant=Variant(name="v"))
    engine = TranslationEngine(tmp_path / "v", threads=1)
    items = engine.pre(TEXTS)
    outputs = engine.compute(items)
    assert engine.post(outputs) == expected_of(model, engine)
    lengths = (outputs != NO_TOKEN).sum(axis=1)
    limits = [engine.limit(len(ids)) for ids in items]
    cut = [length == limit for length, limit in zip(lengths, limits, strict=True)]
    assert any(cut) and not all(cut) and max(limits) == MAXIMUM_TOKENS > min(limits)


def test_every_protocol_answers_as_transformers_does(model_and_server: tuple[list[str], Running]) -> None:
    expected, server = model_and_server
    named = server.infer(*TEXTS, outputs=[{"name": "translation"}])
    for reply in (server.infer(*TEXTS), named):
        assert reply.status == 200, reply.body
        wanted = {"name": "translation", "datatype": "BYTES", "shape": [len(TEXTS)], "data": expected}
        assert reply.body["outputs"] == [wanted]
        assert "compute;dur=" in reply.headers["Server-Timing"]
    assert server.call("/translate", {"texts": TEXTS}).body["translations"] == expected
    assert server.call("/translate", {"text": TEXTS[3]}).body["translations"] == expected[3:4]
    assert "cycle_pre_seconds" in server.call("/metrics").body


def test_what_a_translator_is_and_does_not_do(model_and_server: tuple[list[str], Running]) -> None:
    _, server = model_and_server
    assert server.call("/v2/models/m").body["outputs"] == [{"name": "translation", "datatype": "BYTES", "shape": [-1]}]
    long = " ".join(WORDS[3:])
    assert server.call("/translate", {"text": long}).status == 200
    for path, body, status, field in (
        ("/translate", {"text": long, "truncate": False}, 400, "text"),
        ("/translate", {"texts": []}, 400, "texts"),
        ("/translate", {}, 400, "text"),
        ("/translate", {"text": "a", "top": 3}, 400, "top"),
        ("/classify", {"text": "a"}, 404, None),
        ("/generate", {"prompt": "a"}, 404, None),
    ):
        refused = server.call(path, body)
        assert (refused.status, refused.body.get("field")) == (status, field), path
        if status == 404:
            assert "translates texts; ask /translate" in refused.body["error"]
    label = server.infer("a", outputs=[{"name": "label"}])
    assert (label.status, label.body["field"]) == (400, "outputs[0].name")
    document = server.call("/openapi.json").body
    for path in ("/translate", "/v2/models/{model}/infer"):
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert server.call(path.replace("{model}", "m"), example).status == 200, path


def test_a_folder_that_is_not_right_says_what(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    write_translation_variant(folder, variant=Variant(name="v"))
    config = json.loads((folder / "config.json").read_text())
    for change, words in (
        ({"model_type": "t5"}, "'t5' is not marian"),
        ({"decoder_layers": 3}, "lacks 26 tensors"),
        ({"encoder_ffn_dim": 64}, "size mismatch"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(BadVariantError, match=words):
            TranslationEngine(folder, threads=1)


def profiling(tmp_path: Path, endpoint: Endpoint, *, rows: list[dict[str, Any]]) -> int:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = ProfilingConfig(
        **profiled(tmp_path, endpoint),
        model_digest=DIGEST,
        variants=[ProfileVariant(variant=Variant(name="v"), path=str(tmp_path / "v"))],
        evaluation_path=str(tmp_path / "rows.jsonl"),
        fields=Fields(text="english", translation="german"),
        evaluation=Evaluation(metrics=["chrf", "bleu"]),
        batch_sizes=[1, 4],
        sequence_lengths=[4, 8],
    )
    return run(tmp_path, config)


def test_a_profile_has_the_quality_and_times_of_translations(tmp_path: Path, endpoint: Endpoint) -> None:
    """The references are the engine's own translations but one, so quality is known."""
    write_translation_variant(tmp_path / "v", variant=Variant(name="v"))
    engine = TranslationEngine(tmp_path / "v", threads=1)
    references = translated(engine, engine.pre(TEXTS))
    rows = [{"english": text, "german": said or "-"} for text, said in zip(TEXTS, references, strict=True)]
    assert profiling(tmp_path, endpoint, rows=[*rows, {"english": TEXTS[0], "german": "something else"}]) == 0
    (message,) = [report.message for report in endpoint.reports]
    assert isinstance(message, ProfileReport)
    profile = message.profile
    cells = {(row.pace, row.batch_size, row.sequence_length) for row in profile.rows}
    assert cells == {(pace, size, length) for pace in Pace for size in (1, 4) for length in (4, 8)}
    wanted = [*(row["german"] for row in rows), "something else"]
    expected = score(["chrf", "bleu"], translations=[*references, references[0]], references=wanted)
    assert profile.metrics == expected and all(0.5 < metric.value < 1 for metric in expected)
    assert profile.batch_invariant and profile.neighbour_difference == 0
    assert profile.overhead.count >= 100 and profile.cache_hit.count >= 100


def test_a_row_without_a_translation_ends_the_profile(tmp_path: Path, endpoint: Endpoint) -> None:
    write_translation_variant(tmp_path / "v", variant=Variant(name="v"))
    assert profiling(tmp_path, endpoint, rows=[{"english": "a"}]) == EXIT_BAD_INPUT
    (failure,) = [report.message for report in endpoint.reports]
    assert isinstance(failure, FailureReport)
    assert (failure.reason, failure.field) == ("BadData", "spec.data.fields.translation")
    assert "line 1: no field 'german'" in failure.message
