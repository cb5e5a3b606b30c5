"""How good translations are: the metrics of the field as sacreBLEU computes them. Trainer and profiler share it."""

from collections.abc import Callable, Sequence

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from cycle_wire.profile import MetricValue


def chrf(translations: Sequence[str], references: Sequence[str]) -> float:
    """Character n-gram F-score (Popović 2015) of the corpus: n to 6, recall counts twice, no words; 0 to 1."""
    return float(CHRF().corpus_score(translations, [references]).score) / 100


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """BLEU (Papineni et al. 2002) of the corpus with sacreBLEU's own words (13a) and smoothing (exp); 0 to 1."""
    return float(BLEU().corpus_score(translations, [references]).score) / 100


SCORES: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {"chrf": chrf, "bleu": bleu}


def score(names: Sequence[str], *, translations: Sequence[str], references: Sequence[str]) -> list[MetricValue]:
    """``names`` are of SCORES."""
    return [
        MetricValue(name=name, value=SCORES[name](translations, references), rows=len(references)) for name in names
    ]
