"""Items of a recommender, and how good a ranking of all of them is. Trainer and server share this file: no torch.

Both metrics look at the whole ranking. To rank the wanted items among a sample of the others is cheaper, but it can
turn the order of two models round (Krichene and Rendle 2020).
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ITEMS_FILE = "items.json"
START = 0  # the token that every set begins with, so that the empty one can be computed too
CUTOFF = 10

Scores = NDArray[np.float32] | NDArray[np.float64]


class Catalogue:
    """All items that a recommender knows, by index. An item's token is its index plus 1."""

    def __init__(self, items: Sequence[str]) -> None:
        self.items = list(items)
        self._index = {item: index for index, item in enumerate(self.items)}

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def read(cls, folder: Path) -> "Catalogue":
        """Raises OSError, or ValueError for a file that isn't a list of distinct texts."""
        items = json.loads((folder / ITEMS_FILE).read_text(encoding="utf-8"))
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ValueError(f"{ITEMS_FILE}: a list of texts is needed")
        if len(set(items)) != len(items):
            raise ValueError(f"{ITEMS_FILE}: an item is there twice")
        return cls(items)

    def write(self, folder: Path) -> None:
        text = json.dumps(self.items, ensure_ascii=False, indent=0)
        (folder / ITEMS_FILE).write_text(text + "\n", encoding="utf-8")

    def indices(self, items: Iterable[str]) -> list[int]:
        """Of those that it knows, each once, rising: the same set gives the same list."""
        return sorted({self._index[item] for item in items if item in self._index})

    def strangers(self, items: Iterable[str]) -> list[str]:
        """Those that it doesn't know, each once, in their order."""
        return [item for item in dict.fromkeys(items) if item not in self._index]


def tokens(indices: Sequence[int]) -> list[int]:
    """A set of items as the model reads it, which takes the first of a longer one."""
    return [START, *(index + 1 for index in indices)]


def best(scores: Scores, count: int, *, without: Sequence[int] = ()) -> list[int]:
    """Indices of the ``count`` items of highest score, best first, of equals the first; fewer when there are fewer.

    ``scores`` (items,); those of ``without`` don't take part.
    """
    left = scores.astype(np.float64)
    left[list(without)] = -np.inf
    order = np.argsort(-left, kind="stable")[: min(count, len(left) - len(set(without)))]
    return [int(index) for index in order]


def recall(ranked: Sequence[int], wanted: Sequence[int], *, total: int, cutoff: int = CUTOFF) -> float:
    """Share of the wanted items that are in the first ``cutoff``; of more than ``cutoff`` as many as fit count as all.

    ``total``: how many are wanted, with those that can't be ranked because the model doesn't know them.
    (Liang et al. 2018, section 4.2.)
    """
    return len(set(ranked[:cutoff]) & set(wanted)) / min(cutoff, total)


def ndcg(ranked: Sequence[int], wanted: Sequence[int], *, total: int, cutoff: int = CUTOFF) -> float:
    """Normalized discounted cumulative gain: a wanted item in place r (from 1) gains 1 / log2(r + 1).

    1 when all wanted items come first. (Järvelin and Kekäläinen 2002; ``total`` as in ``recall``.)
    """
    want = set(wanted)
    gained = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked[:cutoff]) if item in want)
    return gained / sum(1 / math.log2(place + 2) for place in range(min(cutoff, total)))


METRICS: Mapping[str, Callable[..., float]] = {f"recallAt{CUTOFF}": recall, f"ndcgAt{CUTOFF}": ndcg}
