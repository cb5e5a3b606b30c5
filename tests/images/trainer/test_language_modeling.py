"""Language models: what of a row is learned, two ranks that train one from nothing, its baselines and bad input."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from cycle_server.token_rows import RowEncoder, TokenRow
from cycle_trainer.baselines.tokens import token_baselines
from cycle_trainer.collective import Alone
from cycle_trainer.failures import BadInputError
from cycle_trainer.loop import steps
from cycle_trainer.optimizer import make_optimizer
from cycle_trainer.plan import StepPlan
from cycle_trainer.tasks import task_of
from cycle_trainer.tasks.language_modeling import NOT_LEARNED, LanguageModeling, padded
from cycle_wire.parts import Evaluation
from tests.images.trainer.conftest import Ranks
from tests.images.trainer.tiny import Workplace, write_rows
from tests.images.trainer.tiny_causal import TEMPLATE, language_rows, make_causal, write_causal_model, write_tokenizer

SPEC = Evaluation(metrics=["tokenAccuracy", "perplexity"])


@pytest.fixture
def causal(workplace: Workplace) -> Workplace:
    make_causal(workplace)
    return workplace


def quality(task: LanguageModeling, folder: Path) -> tuple[float, float]:
    """(token accuracy, perplexity) of a saved model on the evaluation rows, by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    batch = padded(task.evaluation)
    with torch.no_grad():
        logits = model(batch.inputs["input_ids"]).logits[:, :-1].float()
    targets = batch.targets[:, 1:]
    learned = targets != NOT_LEARNED
    loss = torch.nn.functional.cross_entropy(logits[learned], targets[learned])
    return float((logits.argmax(dim=-1) == targets)[learned].float().mean()), math.exp(float(loss))


def test_of_a_text_all_is_learned_and_of_a_chat_the_answers(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    encoder = RowEncoder(tmp_path)
    (text,) = encoder.texts(["word0 word1"])
    assert text == TokenRow(ids=[4, 5, 3], learned=[False, True, True])
    chat = [
        {"role": "user", "content": "word0"},
        {"role": "assistant", "content": "word1 word2"},
        {"role": "user", "content": "word3"},
        {"role": "assistant", "content": "word4"},
    ]
    row = encoder.chat(chat)
    assert row.ids == [1, 4, 3, 2, 5, 6, 3, 1, 7, 3, 2, 8, 3]
    assert [token for token, learned in zip(row.ids, row.learned, strict=True) if learned] == [5, 6, 3, 8, 3]


def test_with_a_template_that_looks_ahead_the_whole_chat_is_learned(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, template="{{ messages | length }} " + TEMPLATE)
    row = RowEncoder(tmp_path).chat([{"role": "user", "content": "word0"}, {"role": "assistant", "content": "word1"}])
    assert all(row.learned[1:])


def test_long_rows_are_cut_and_pieces_without_a_lesson_left_out() -> None:
    row = TokenRow(ids=list(range(7)), learned=[False, False, False, False, True, True, True])
    assert row.pieces(3) == [TokenRow(ids=[3, 4, 5], learned=[False, True, True])]
    assert row.pieces(7) == [row]


def test_padding_changes_no_answer_and_teaches_nothing(causal: Workplace) -> None:
    task = LanguageModeling(causal.write_config())
    torch.manual_seed(0)
    model = task.pretrained().eval()
    rows = task.training[:6]
    with torch.no_grad():
        together = float(task.loss(model, padded(rows)))
        weighted = [(float(task.loss(model, padded([row]))), sum(row.learned)) for row in rows]
    alone = sum(loss * count for loss, count in weighted) / sum(count for _, count in weighted)
    assert together == pytest.approx(alone, rel=1e-5)


def test_two_ranks_train_a_model_from_random_weights(causal: Workplace, ranks: Ranks) -> None:
    causal.spec["training"] |= {"maximumSteps": 150}
    causal.spec["checkpoint"]["everySteps"] = 50
    done = ranks()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training starts from random weights" in done.stdout + done.stderr
    (trained,) = causal.operator.messages("Trained")
    assert trained.from_random_weights and trained.labels == 0 and trained.train_rows == 600
    folder = causal.output / trained.digest.replace(":", "-")
    assert {"config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"} <= {
        path.name for path in folder.iterdir()
    }
    task = task_of(causal.write_config())
    assert isinstance(task, LanguageModeling)
    unigram, bigram = (entry.metrics for entry in task.baselines(range(600)))
    accuracy, perplexity = quality(task, folder)
    assert unigram[1].value > 15 > 5 > bigram[1].value > 2
    assert accuracy > 0.8 > bigram[0].value > unigram[0].value
    assert perplexity < 0.8 * bigram[1].value


def test_two_ranks_compute_what_one_process_does(causal: Workplace, ranks: Ranks) -> None:
    """Tied embeddings too: their gradient comes from both ends of the model."""
    causal.spec["training"] |= {"maximumSteps": 20, "learningRate": "1e-3"}
    causal.spec["checkpoint"]["everySteps"] = 1000
    assert ranks().returncode == 0
    trained = causal.operator.messages("Trained")[0]
    config = causal.write_config()
    task = task_of(config)
    plan = StepPlan.of(config.training, rows=len(task.lengths))
    torch.manual_seed(config.training.seed)
    model = task.pretrained()
    optimizer = make_optimizer(model, head=task.head(model), training=config.training)
    taken = list(
        steps(model=model, task=task, optimizer=optimizer, plan=plan, training=config.training, collective=Alone())
    )
    saved = AutoModelForCausalLM.from_pretrained(causal.output / trained.digest.replace(":", "-"))
    assert taken[-1].loss < taken[0].loss
    for (name, tensor), other in zip(model.state_dict().items(), saved.state_dict().values(), strict=True):
        torch.testing.assert_close(other, tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_a_pretrained_model_is_where_training_starts(workplace: Workplace) -> None:
    make_causal(workplace, family="gpt2", weights=True)
    task = LanguageModeling(workplace.write_config())
    assert not task.starts_from_random_weights
    saved = AutoModelForCausalLM.from_pretrained(workplace.folder / "model").state_dict()
    for name, tensor in task.pretrained().state_dict().items():
        torch.testing.assert_close(tensor, saved[name])


def test_baselines_count_as_by_hand() -> None:
    """Training: a b, a b, a c; of three learned tokens b comes twice."""
    rows = [TokenRow(ids=[0, token], learned=[False, True]) for token in (1, 1, 2)]
    judged = [TokenRow(ids=[0, 1], learned=[False, True]), TokenRow(ids=[0, 2], learned=[False, True])]
    unigram, bigram = token_baselines(rows, judged, vocabulary=4, evaluation_spec=SPEC)
    assert [metric.name for metric in unigram.metrics] == SPEC.metrics
    shares = [3 / 7, 2 / 7]  # counts 0 2 1 0, and one added to each of four
    assert unigram.metrics[0].value == 0.5
    assert unigram.metrics[1].value == pytest.approx(1 / math.sqrt(shares[0] * shares[1]))
    found = {
        strength: 1 / math.sqrt((2 + strength * shares[0]) * (1 + strength * shares[1])) * (3 + strength)
        for strength in (1.0, 10.0, 100.0, 1000.0)
    }
    assert any(bigram.metrics[1].value == pytest.approx(value) for value in found.values())


def test_an_unknown_metric_is_bad_input(causal: Workplace) -> None:
    causal.spec["evaluation"] = {"metrics": ["tokenAccuracy", "bleu"]}
    with pytest.raises(BadInputError, match="no metric bleu; there are tokenAccuracy, perplexity"):
        LanguageModeling(causal.write_config()).baselines(range(10))


def _rewrite_config(workplace: Workplace, **changes: object) -> None:
    path = workplace.folder / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _pickled(workplace: Workplace) -> None:
    (workplace.folder / "model" / "pytorch_model.bin").write_bytes(b"a pickle")


def _chats_without_template(workplace: Workplace) -> None:
    write_causal_model(workplace.folder / "model")
    (workplace.folder / "model" / "chat_template.jinja").unlink()


def _bad_chat(workplace: Workplace) -> None:
    rows = [*language_rows(3), {"messages": [{"role": "user"}]}]
    write_rows(workplace.folder / "train.jsonl", rows)


BAD_INPUTS: dict[str, tuple[Callable[[Workplace], object], str, str, str]] = {
    "empty": (
        lambda w: write_rows(w.folder / "train.jsonl", []),
        "BadData", "spec.data.train", "has no rows",
    ),
    "field": (
        lambda w: write_rows(w.folder / "evaluation.jsonl", [{"gloss": "word1"}]),
        "BadData", "spec.data.fields.text", "line 1: there is no field 'text'",
    ),
    "chat": (_bad_chat, "BadData", "spec.data.fields.messages", "line 4: field 'messages' must be a list"),
    "template": (_chats_without_template, "ModelUnsupported", "spec.model.uri", "has no chat template"),
    "length": (
        lambda w: w.spec["training"].update(maximumSequenceLength=64),
        "BadSequenceLength", "spec.training.maximumSequenceLength", "at most 32 tokens",
    ),
    "family": (
        lambda w: _rewrite_config(w, model_type="mamba"),
        "ModelUnsupported", "spec.model.uri", "none of gpt2, llama",
    ),
    "vocabulary": (
        lambda w: _rewrite_config(w, vocab_size=20),
        "ModelUnsupported", "spec.model.uri", "vocab_size is 20",
    ),
    "shape": (
        lambda w: _rewrite_config(w, num_attention_heads=5),
        "ModelUnreadable", "spec.model.uri", "config.json can't be read",
    ),
    "pickle": (_pickled, "ModelUnsupported", "spec.model.uri", "convert the weights to model.safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_INPUTS)
def test_bad_input_names_the_field(causal: Workplace, what: str) -> None:
    spoil, reason, field, words = BAD_INPUTS[what]
    spoil(causal)
    with pytest.raises(BadInputError) as caught:
        task_of(causal.write_config())
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert words in caught.value.message


def test_weights_that_lack_some_are_refused(causal: Workplace) -> None:
    write_causal_model(causal.folder / "model", weights=True)
    _rewrite_config(causal, num_hidden_layers=3)
    with pytest.raises(BadInputError, match="lacks 9 weights, first model.layers.2"):
        task_of(causal.write_config()).pretrained()


def test_a_loss_that_is_no_number_ends_both_ranks(causal: Workplace, ranks: Ranks) -> None:
    causal.spec["training"] |= {"learningRate": "1e30", "warmupRatio": "0"}
    done = ranks()
    assert done.returncode == 3, done.stdout + done.stderr
    (failure,) = causal.operator.messages("Failure")
    assert (failure.reason, failure.field) == ("LossNotFinite", "spec.training.learningRate")
