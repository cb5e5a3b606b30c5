"""A real server of recommendations: answers are transformers' own, and a profile counts what is found."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from cycle_server.engine.model import EncoderClassifier
from cycle_server.engine.recommender import Recommender
from cycle_server.errors import BadInputError, BadVariantError
from cycle_server.profiler.sets import read_questions
from cycle_server.ranking import METRICS, Catalogue, best
from cycle_wire.parts import Evaluation, Fields, Task, Variant
from cycle_wire.profile import Pace
from cycle_wire.reports import ProfileReport
from cycle_wire.serving import ProfileVariant, ProfilingConfig
from cycle_wire.variant import VariantManifest
from tests.images.server.serving import Running, serving
from tests.images.server.test_profile import Endpoint, endpoint, profiled, run
from tests.images.server.variants import DIGEST

__all__ = ["endpoint"]
ITEMS = [f"item {place:02}" for place in range(30)]
SETS = [["item 03", "item 21"], ["item 07"], [], ["item 29", "item 00", "item 11", "item 12"]]
LONGEST = 8  # tokens of a set
FIELDS = Fields(items="have", held_out="want")


def write_recommender(folder: Path, *, variant: Variant) -> EncoderClassifier:
    """Small and random, as the trainer writes it; the model as transformers computes it."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(ITEMS) + 1, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=16, type_vocab_size=1,
    )  # fmt: skip
    model = EncoderClassifier(BertModel(config, add_pooling_layer=False), classes=len(ITEMS)).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    model.encoder.embeddings.position_embeddings.weight.data.zero_()
    config.save_pretrained(folder)
    Catalogue(ITEMS).write(folder)
    weights = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    manifest = VariantManifest(
        variant=variant,
        task=Task.RECOMMENDATION,
        model_digest=DIGEST,
        weights_digest=f"sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}",
        size_bytes=weights.stat().st_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sparsity=0.0,
        maximum_sequence_length=LONGEST,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return model


def probabilities_by(model: EncoderClassifier, names: list[str]) -> np.ndarray:
    """(items,) as transformers computes them, of the first items that the model reads; 0 for those given."""
    given = Catalogue(ITEMS).indices(names)
    ids = torch.tensor([[0, *(place + 1 for place in given)][:LONGEST]])
    with torch.no_grad():
        logits = model(ids, torch.ones_like(ids))[0]
    logits[given] = -torch.inf
    found: np.ndarray = logits.softmax(dim=0).numpy()
    return found


@pytest.fixture(scope="module")
def model_and_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EncoderClassifier, Running]]:
    """Two workers: the front hands sets over to processes that compute."""
    folder = tmp_path_factory.mktemp("variants") / "v"
    model = write_recommender(folder, variant=Variant(name="v"))
    with serving(folder, maximum_batch_size=4, budget_milliseconds=60_000, workers=2) as running:
        yield model, running


def test_every_protocol_answers_as_transformers_does(model_and_server: tuple[EncoderClassifier, Running]) -> None:
    model, server = model_and_server
    expected = [probabilities_by(model, names) for names in SETS]
    asked = server.infer(*map(json.dumps, SETS), outputs=[{"name": "label"}, {"name": "probabilities"}])
    assert asked.status == 200, asked.body
    labels, probabilities = asked.body["outputs"]
    assert np.array(probabilities["data"]).reshape(probabilities["shape"]) == pytest.approx(
        np.array(expected), abs=1e-5
    )
    assert labels["data"] == [ITEMS[row.argmax()] for row in expected]
    answer = server.call("/recommend", {"sets": SETS, "top": 5})
    assert answer.status == 200 and "compute;dur=" in answer.headers["Server-Timing"]
    for names, row, result in zip(SETS, expected, answer.body["results"], strict=True):
        ranked = best(row, 5, without=Catalogue(ITEMS).indices(names))
        assert [entry["item"] for entry in result["items"]] == [ITEMS[place] for place in ranked]
        assert [entry["probability"] for entry in result["items"]] == pytest.approx(row[ranked].tolist(), abs=1e-5)


def test_what_is_given_is_a_set_and_is_never_recommended(model_and_server: tuple[EncoderClassifier, Running]) -> None:
    _, server = model_and_server

    def recommended(*names: str) -> dict[str, object]:
        (result,) = server.call("/recommend", {"items": names, "top": 1000}).body["results"]
        return dict(result)

    plain = recommended("item 03", "item 21")
    assert recommended("item 21", "item 03", "item 21") == plain
    assert recommended("item 21", "new", "item 03") == {**plain, "unknown": ["new"]}
    many = ITEMS[:12]  # more than the model reads
    left = recommended(*many)["items"]
    assert isinstance(left, list) and sorted(entry["item"] for entry in left) == ITEMS[12:]
    assert sum(entry["probability"] for entry in left) == pytest.approx(1.0, abs=1e-4)
    everything = server.call("/recommend", {"sets": [["item 01"], ITEMS]})
    assert (everything.status, everything.body["field"]) == (400, "sets[1]")
    assert "nothing is left to recommend" in everything.body["error"]


def test_wrong_requests_name_the_field(model_and_server: tuple[EncoderClassifier, Running]) -> None:
    _, server = model_and_server
    for body, field in (
        ({}, "items"),
        ({"items": ["a"], "sets": [["a"]]}, "items"),
        ({"items": "a"}, "items"),
        ({"items": [7]}, "items[0]"),
        ({"sets": []}, "sets"),
        ({"sets": [["a"], "b"]}, "sets[1]"),
        ({"items": ["a"], "top": 0}, "top"),
    ):
        refused = server.call("/recommend", body)
        assert (refused.status, refused.body["field"]) == (400, field), body
    for text in ("item 03", '{"a": 1}', '["a", 1]'):
        refused = server.infer('["item 03"]', text)
        assert (refused.status, refused.body["field"]) == (400, "inputs[0].data[1]"), text
    for path, body in (("/classify", {"text": "a"}), ("/v1/embeddings", {"model": "m", "input": "a"})):
        refused = server.call(path, body)
        assert refused.status == 404 and "ask /recommend" in json.dumps(refused.body)
    paths = server.call("/openapi.json").body["paths"]
    for path in ("/recommend", "/v2/models/{model}/infer"):
        example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert server.call(path.replace("{model}", "m"), example).status == 200, path


def test_a_folder_that_is_not_right_says_what(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    write_recommender(folder, variant=Variant(name="v"))
    for content, words in (('["a", "b"]', "2 labels for 30 classes"), ("{}", "a list of texts is needed")):
        (folder / "items.json").write_text(content)
        with pytest.raises(BadVariantError, match=words):
            Recommender(folder, threads=1)


def profiling(tmp_path: Path, endpoint: Endpoint, rows: list[dict[str, list[str]]]) -> int:
    variant = Variant(name="v")
    write_recommender(tmp_path / "v", variant=variant)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = ProfilingConfig(
        **profiled(tmp_path, endpoint),
        model_digest=DIGEST,
        variants=[ProfileVariant(variant=variant, path=str(tmp_path / "v"))],
        evaluation_path=str(tmp_path / "rows.jsonl"),
        fields=FIELDS,
        evaluation=Evaluation(metrics=["recallAt10", "ndcgAt10"]),
        batch_sizes=[4],
        sequence_lengths=[2, 6],
    )
    return run(tmp_path, config)


def test_a_profile_counts_what_is_found_in_the_whole_ranking(tmp_path: Path, endpoint: Endpoint) -> None:
    source = np.random.default_rng(0)
    rows = []
    for size in source.integers(2, 12, size=60).tolist():
        chosen = [ITEMS[place] for place in source.permutation(len(ITEMS))[: size + 2]]
        rows.append({"have": [*chosen[2:], "new"], "want": [*chosen[:2], "never seen"]})
    assert profiling(tmp_path, endpoint, rows) == 0
    (message,) = [report.message for report in endpoint.reports]
    assert isinstance(message, ProfileReport)
    profile = message.profile
    cells = {(row.pace, row.batch_size, row.sequence_length) for row in profile.rows}
    assert cells == {(pace, 4, length) for pace in Pace for length in (2, 6)}
    assert profile.batch_invariant and profile.overhead.count >= 100 and profile.cache_hit.count >= 100
    model, catalogue = write_recommender(tmp_path / "same", variant=Variant(name="v")), Catalogue(ITEMS)
    for metric in profile.metrics:
        each = [
            METRICS[metric.name](
                best(probabilities_by(model, row["have"]), 10, without=catalogue.indices(row["have"])),
                catalogue.indices(row["want"]),
                total=3,
            )
            for row in rows
        ]
        assert metric.rows == 60 and metric.value == pytest.approx(np.mean(each))


@pytest.mark.parametrize(
    ("row", "reason", "field", "words"),
    [
        ({"have": ["a"], "want": []}, "BadData", "spec.data.fields.heldOut", "line 2: field 'want' must be a list"),
        ({"have": "a", "want": ["b"]}, "BadData", "spec.data.fields.items", "line 2: field 'have' must be a list"),
        ({"want": ["b"]}, "BadData", "spec.data.fields.items", "line 2: no field 'have'"),
    ],
)
def test_a_bad_row_names_the_field_and_the_line(
    tmp_path: Path, row: object, reason: str, field: str, words: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"have": ["a", 7], "want": ["b"]}, row])), encoding="utf-8")
    with pytest.raises(BadInputError, match=words) as caught:
        read_questions(path, fields=FIELDS, maximum_rows=None)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    (question,) = read_questions(path, fields=FIELDS, maximum_rows=1)
    assert (question.given, question.wanted) == (["a", "7"], ["b"])
