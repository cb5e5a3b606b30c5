"""Metrics of rankings by hand, and what a recommender knows."""

import math
from pathlib import Path

import numpy as np
import pytest

from cycle_server.ranking import Catalogue, best, ndcg, recall, tokens


def test_the_best_are_ranked_without_what_was_given_and_ties_by_index() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.7], dtype=np.float32)
    assert best(scores, 3) == [1, 4, 0]
    assert best(scores, 3, without=[1, 0]) == [4, 2, 3]
    assert best(scores, 9, without=[1, 0]) == [4, 2, 3]  # never an item that was given
    assert best(scores, 2, without=[0, 1, 2, 3, 4]) == []


def test_recall_by_hand() -> None:
    ranked = list(range(20))
    assert recall(ranked, [0, 9, 10], total=3) == pytest.approx(2 / 3)
    assert recall(ranked, [0, 1], total=4) == pytest.approx(2 / 4)  # two of the wanted aren't known to the model
    assert recall(ranked, list(range(15)), total=15) == 1.0  # ten fit
    assert recall(ranked, [0, 9, 10], total=3, cutoff=1) == 1.0


def test_ndcg_by_hand() -> None:
    ranked = list(range(20))
    ideal = 1 / math.log2(2) + 1 / math.log2(3)
    assert ndcg(ranked, [0, 1], total=2) == pytest.approx(1.0)
    assert ndcg(ranked, [0, 2], total=2) == pytest.approx((1 + 1 / math.log2(4)) / ideal)
    assert ndcg(ranked, [2, 0], total=2) == ndcg(ranked, [0, 2], total=2)
    assert ndcg(ranked, [10], total=1) == 0.0
    assert ndcg(ranked, [0], total=2) == pytest.approx(1 / ideal)
    assert ndcg(ranked, list(range(15)), total=15) == pytest.approx(1.0)


def test_a_set_has_no_order_no_repeats_and_no_strangers(tmp_path: Path) -> None:
    catalogue = Catalogue(["a", "b", "café"])
    catalogue.write(tmp_path)
    read = Catalogue.read(tmp_path)
    assert read.items == ["a", "b", "café"] and len(read) == 3
    assert read.indices(["café", "x", "a", "café"]) == [0, 2]
    assert tokens([0, 2]) == [0, 1, 3]
    assert tokens([]) == [0]


@pytest.mark.parametrize("content", ['{"a": 1}', '["a", 1]', '["a", "a"]', "["])
def test_a_catalogue_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "items.json").write_text(content)
    with pytest.raises(ValueError, match=r"items\.json|JSON|Expecting"):
        Catalogue.read(tmp_path)
