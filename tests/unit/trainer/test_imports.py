"""The example's sets: what Python files import, and a split that is the same every time."""

from examples.demo_data.imports import EVALUATION_SHARE, hash_of, imported, question, sets_of

SOURCE = """
import os, numpy.linalg as la  # two
from math import sqrt
from . import near
from ..far import thing
def late():
    from .near.by import (
        other,
    )
text = "import not_this"
important = 1
"""


def test_imports_are_modules_and_relative_ones_are_absolute() -> None:
    found = imported(SOURCE, package=("pack", "part"))
    assert found == {"os", "numpy.linalg", "math", "pack.part", "pack.far", "pack.part.near.by"}


def test_rare_items_and_small_sets_are_left_out_until_none_is() -> None:
    common = {"a", "b", "c", "d"}
    files = [common | {"e", f"rare{n}"} for n in range(6)] + [common | {str(n)} for n in range(2)]
    assert sets_of(files) == []  # without the rare ones all are one set, in which everything is rare
    files = [(common | {"e", "f"}) - {drop} for drop in "abcdef"]
    assert sorted(sets_of([*files, {"a", "rare"}])) == sorted(tuple(sorted(one)) for one in files)
    assert sets_of(files[::-1]) == sets_of(files)


def test_what_is_held_out_is_not_given_and_the_same_every_time() -> None:
    sets = [tuple(f"item{n}.{place}" for place in range(4 + n % 9)) for n in range(200)]
    parts = [bool(hash_of(one) % EVALUATION_SHARE) for one in sets]
    assert 5 < parts.count(False) < 60
    for one in sets:
        line = question(one)
        assert line == question(one)
        assert not set(line["items"]) & set(line["heldOut"]) and set(line["items"]) | set(line["heldOut"]) == set(one)
        assert len(line["heldOut"]) == max(1, len(one) // 5)
