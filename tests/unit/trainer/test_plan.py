"""Which rows a rank sees: the same whatever the world, each row once per epoch."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycle_trainer.failures import BadInputError
from cycle_trainer.plan import StepPlan, rate_scale
from cycle_wire.parts import Training


def plan_of(
    *, rows: int = 100, steps: int = 10, global_batch: int = 16, micro_batch: int = 4, seed: int = 0
) -> StepPlan:
    return StepPlan(
        rows=rows, total_steps=steps, global_batch_size=global_batch, micro_batch_size=micro_batch, seed=seed
    )


@given(
    rows=st.integers(1, 60),
    rounds=st.integers(1, 4),
    micro_batch=st.integers(1, 5),
    world_size=st.integers(1, 4),
    step=st.integers(0, 20),
    seed=st.integers(0, 3),
)
def test_ranks_share_a_step_without_loss(
    rows: int, rounds: int, micro_batch: int, world_size: int, step: int, seed: int
) -> None:
    batch = rounds * micro_batch * world_size
    plan = plan_of(rows=rows, global_batch=batch, micro_batch=micro_batch, seed=seed)
    lengths = [(7 * row) % 13 for row in range(rows)]
    dealt = [
        row
        for rank in range(world_size)
        for rows_of in plan.micro_batches(step, rank=rank, world_size=world_size, lengths=lengths)
        for row in rows_of
    ]
    assert Counter(dealt) == Counter(plan.step_rows(step))
    assert len(dealt) == batch


@given(rows=st.integers(1, 50), batch=st.integers(1, 20), epochs=st.integers(1, 3))
def test_every_row_once_per_epoch(rows: int, batch: int, epochs: int) -> None:
    plan = StepPlan.of(Training(epochs=epochs, global_batch_size=batch, micro_batch_size=1), rows=rows)
    order = [row for step in range(plan.total_steps) for row in plan.step_rows(step)]
    for epoch in range(epochs):
        assert sorted(order[epoch * rows : (epoch + 1) * rows]) == list(range(rows))
    assert len(order) - epochs * rows < batch
    assert sorted(plan.seen_rows()) == list(range(rows))


def test_micro_batches_hold_rows_of_like_length() -> None:
    plan = plan_of(rows=64, global_batch=16, micro_batch=4)
    batches = plan.micro_batches(0, rank=0, world_size=1, lengths=list(range(64)))
    assert [max(batch) for batch in batches[:-1]] < [min(batch) for batch in batches[1:]]
    # Two ranks get the shortest and the longest, and the two between: as many tokens each.
    first = plan.micro_batches(0, rank=0, world_size=2, lengths=list(range(64)))
    second = plan.micro_batches(0, rank=1, world_size=2, lengths=list(range(64)))
    assert [first[0], second[0], second[1], first[1]] == batches


def test_order_depends_on_the_seed_only() -> None:
    assert plan_of(seed=1).step_rows(3) == plan_of(seed=1, micro_batch=16).step_rows(3)
    assert plan_of(seed=1).step_rows(3) != plan_of(seed=2).step_rows(3)


def test_accumulation_must_come_out_even() -> None:
    assert plan_of(global_batch=64, micro_batch=16).accumulation(world_size=2) == 2
    with pytest.raises(BadInputError) as caught:
        plan_of(global_batch=64, micro_batch=16).accumulation(world_size=3)
    assert caught.value.reason == "BadBatchSize"
    assert caught.value.field == "spec.training.globalBatchSize"
    assert "16 x 3 ranks = 48" in caught.value.message


def test_steps_or_epochs_are_needed() -> None:
    with pytest.raises(BadInputError, match="maximumSteps and epochs"):
        StepPlan.of(Training(), rows=10)


def test_rate_rises_then_falls_to_nothing() -> None:
    scales = [rate_scale(step, total_steps=100, warmup_ratio=0.1) for step in range(101)]
    assert scales[0] == 0.1 and scales[9] == 1.0 and max(scales) == 1.0 and scales[100] == 0.0
    assert all(a > b for a, b in zip(scales[10:], scales[11:], strict=False))
    assert rate_scale(0, total_steps=1, warmup_ratio=0.0) == 1.0
    assert rate_scale(0, total_steps=1, warmup_ratio=1.0) == 1.0
