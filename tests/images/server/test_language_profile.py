"""`cycle-server profile` of a language model: a valid Profile with generation rows and its own metrics is reported."""

import json
import math
import subprocess
import sys
from pathlib import Path

import torch

from cycle_server.token_rows import RowEncoder
from cycle_wire.parts import Evaluation, Fields, Variant
from cycle_wire.reports import ProfileReport
from cycle_wire.serving import ProfileVariant, ProfilingConfig
from cycle_wire.training import JobIdentity, ReportTarget
from tests.images.server.causal_variants import CONTEXT, TEXTS, write_causal
from tests.images.server.test_profile import Endpoint, endpoint
from tests.images.server.variants import DIGEST

__all__ = ["endpoint"]
CHAT = [{"role": "user", "content": "The cat?"}, {"role": "assistant", "content": "It runs up the tree."}]


def test_a_profile_has_generation_rows_and_the_metrics_of_transformers(tmp_path: Path, endpoint: Endpoint) -> None:
    variant = Variant(name="fp32")
    reference = write_causal(tmp_path / "v", variant=variant)
    rows = [json.dumps({"text": text}) for text in TEXTS] + [json.dumps({"messages": CHAT})]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "token").write_text("token", encoding="utf-8")
    config = ProfilingConfig(
        job=JobIdentity(namespace="n", name="j", uid="u"),
        model_digest=DIGEST,
        variants=[ProfileVariant(variant=variant, path=str(tmp_path / "v"))],
        evaluation_path=str(tmp_path / "rows.jsonl"),
        fields=Fields(),
        evaluation=Evaluation(metrics=["tokenAccuracy", "perplexity"]),
        batch_sizes=[1, 4],
        sequence_lengths=[8, 4096],
        workers=2,
        hardware_class="cpu",
        hardware_class_hash="h",
        image="i",
        report=ReportTarget(url=endpoint.url, token_path=str(tmp_path / "token")),
    )
    (tmp_path / "config.json").write_text(config.to_json(), encoding="utf-8")
    command = [sys.executable, "-m", "cycle_server.cli", "profile", "--config", str(tmp_path / "config.json")]
    assert subprocess.run(command, timeout=500, check=False).returncode == 0
    (message,) = [report.message for report in endpoint.reports]
    assert isinstance(message, ProfileReport)
    profile = message.profile
    assert (profile.workers, profile.threads) == (1, 2), "one process decodes, with the threads of all workers"
    assert profile.rows == []
    output = profile.generation[0].output_tokens
    cells = {(row.concurrency, row.prompt_tokens) for row in profile.generation}
    assert cells == {(c, p) for c in (1, 4) for p in (8, CONTEXT - output)}
    for row in profile.generation:
        assert row.pre.count == row.post.count == row.first_token.count >= row.concurrency
        assert row.per_token.count == row.first_token.count * (output - 1)
        assert row.per_token.quantile_seconds(0.5) > 0
    assert profile.batch_invariant
    assert profile.neighbour_difference < 1e-3
    assert profile.overhead.count >= 100
    assert profile.cache_hit.count >= 100

    encoder = RowEncoder(tmp_path / "v")
    judged = [*encoder.texts(TEXTS), encoder.chat(CHAT)]
    loss, right, count = 0.0, 0, 0
    for row in [piece for whole in judged for piece in whole.pieces(CONTEXT)]:
        with torch.no_grad():
            logits = reference(torch.tensor([row.ids])).logits[0, :-1]
        kept = torch.tensor(row.learned[1:])
        truth = torch.tensor(row.ids[1:])[kept]
        loss += float(torch.nn.functional.cross_entropy(logits[kept], truth, reduction="sum"))
        right += int((logits[kept].argmax(dim=1) == truth).sum())
        count += len(truth)
    values = {metric.name: metric.value for metric in profile.metrics}
    assert math.isclose(values["perplexity"], math.exp(loss / count), rel_tol=1e-3)
    assert values["tokenAccuracy"] == right / count
