"""The claims: model, technique, and what it is said to do. Numbers here are claims, never measurements."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Claim:
    """``change``: claimed, of T unless ``of`` says otherwise; -0.3 is 30 % less. ``key``: of the row that measures it.

    ``elsewhere``: why no row measures it here; then ``key`` is empty.
    """

    model: str
    technique: str
    claimed: str
    change: float | None
    key: str = ""
    elsewhere: str = ""


NO_GPU = "not measured here; on a lent H100: docs/benchmarks/gpu.md"
NO_TPU = "not measured here: no TPU, and no engine computes on one"
CLAIMS = (
    Claim(model="BERT", technique="prune 90 %, weights masked", claimed="T -30 %", change=-0.30, key="bert-masked-90"),
    Claim(model="BERT", technique="prune 90 %, heads and neurons cut out", claimed="T -30 %", change=-0.30,
          key="bert-cut-90"),
    Claim(model="BERT", technique="int8", claimed="T -20 %", change=-0.20, key="bert-int8"),
    Claim(model="BERT", technique="GPU", claimed="T -80 %", change=-0.80, elsewhere=NO_GPU),
    Claim(model="BERT", technique="TPU", claimed="T -95 %", change=-0.95, elsewhere=NO_TPU),
    Claim(model="BERT", technique="response cache", claimed="T -50 %", change=-0.50, key="bert-cache"),
    Claim(model="GPT", technique="prune 80 %, heads and neurons cut out", claimed="T -40 %", change=-0.40,
          key="gpt-cut-80"),
    Claim(model="GPT", technique="int4", claimed="T -70 %", change=-0.70, key="gpt-int4"),
    Claim(model="GPT", technique="GPU", claimed="T -100 %", change=-1.0,
          elsewhere=f"cannot be, T stays above 0; {NO_GPU}"),
    Claim(model="GPT", technique="TPU", claimed="T -120 %", change=-1.2,
          elsewhere=f"cannot be, T stays above 0; {NO_TPU}"),
    Claim(model="GPT", technique="response cache (L2)", claimed="T -60 %", change=-0.60,
          elsewhere="not measured here: tests/e2e/test_shared_cache.py shows that it works, not what it brings"),
    Claim(model="GPT", technique="quantization (int8, dynamic)", claimed="10 times faster, accuracy unchanged",
          change=-0.9, key="gpt-int8"),
    Claim(model="GPT", technique="parallel processing", claimed="5 times faster", change=-0.8, key="gpt-threads"),
    Claim(model="BERT / T5", technique="GPU / TPU", claimed="20 / 10 times faster", change=None, elsewhere=NO_GPU),
    Claim(model="any", technique="load balancing", claimed="20 times the throughput", change=19.0, key="balancing"),
    Claim(model="BERT", technique="pruning", claimed="300 M to 100 M parameters", change=-2 / 3, key="bert-large-cut"),
)  # fmt: skip
