"""What bench/train makes of its blocks."""

import pytest

from bench.train.report import Cell, Findings, Ratio, ratio_of, record, targets
from bench.train.worlds import Block


def block(seconds: float) -> Block:
    return Block(seconds=seconds, other_threads_share=0.0, pre_share=0.01, all_reduce_share=0.1)


def test_a_ratio_is_of_neighbours_in_time() -> None:
    """The machine got twice as slow between the rounds; the ratio didn't change."""
    ours = Cell("1 rank", "ours", 100, [block(1.0), block(2.0), block(4.0)])
    theirs = Cell("1 rank", "ddp", 100, [block(1.1), block(2.2), block(4.4)])
    ratio = ratio_of(ours.speeds(), theirs.speeds())
    assert (ratio.middle, ratio.lower, ratio.upper) == pytest.approx((1.1, 1.1, 1.1))


def test_an_interval_holds_what_differs_by_chance() -> None:
    ratio = ratio_of([1.0, 1.1, 0.9, 1.0], [1.0, 1.0, 1.0, 1.0])
    assert ratio.lower < 1.0 < ratio.upper
    assert ratio.lower < ratio.middle < ratio.upper


def test_the_least_favourable_scenario_is_what_is_told() -> None:
    def exactly(value: float) -> Ratio:
        return Ratio(value, value, value)

    found = Findings(
        versus={
            ("1 rank", "ddp"): exactly(1.02),
            ("2 ranks", "ddp"): exactly(0.97),
            ("1 rank", "accelerate"): exactly(1.3),
        },
        efficiency={"ours": exactly(0.91), "ddp": exactly(0.80)},
        side_by_side=exactly(0.99),
        pre_share=0.06,
    )
    told = {"vsDdp": 0.97, "vsAccelerate": 1.3, "efficiencyTwoRanks": 0.91, "preShare": 0.06}
    assert record(found) == told
    assert [line.split()[0] for line in targets(found).splitlines()] == ["MISSED", "met", "MISSED"]
