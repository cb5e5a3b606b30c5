"""Who joins, what a step computes, and when a newcomer has its first token."""

from hypothesis import given
from hypothesis import strategies as st

from cycle_server.batching.cost import Cost
from cycle_server.batching.generation.plan import (
    STEP_TOKENS,
    Asked,
    Progress,
    Room,
    admit,
    compose,
    expected_first_token,
)

COST = Cost(fixed_seconds=0.01, token_seconds=0.001)
BLOCK = 16


def asked(prompt: int, *, turn: float = 0.0, deadline: float = 1e9, new: int = 10) -> Asked:
    return Asked(texts=1, tokens=prompt + new, arrival=0.0, deadline=deadline, turn=turn, prompt=prompt)


def test_those_who_fit_join_by_turns_and_the_late_ones_go() -> None:
    waiting = [asked(20, turn=3), asked(20, turn=1), asked(20, turn=2), asked(20, turn=0, deadline=0.001)]
    decision = admit(waiting, now=0.0, room=Room(places=2, blocks=99, block_tokens=BLOCK), cost=COST)
    assert (decision.take, decision.drop) == ((1, 2), (3,))
    decision = admit(waiting, now=0.0, room=Room(places=9, blocks=5, block_tokens=BLOCK), cost=COST)
    assert decision.take == (1, 2), "two blocks each"


def test_a_large_one_is_not_overtaken_for_ever() -> None:
    waiting = [asked(1000, turn=0), asked(5, turn=1)]
    assert admit(waiting, now=0.0, room=Room(places=9, blocks=5, block_tokens=BLOCK), cost=COST).take == ()


def test_who_is_being_answered_gets_a_token_while_prompts_share_the_rest() -> None:
    running = [Progress(50, 49, 4), Progress(400, 0, 0), Progress(300, 0, 0), Progress(20, 19, 2)]
    step = compose(running, free_blocks=1000, block_tokens=BLOCK)
    assert step.counts == (1, STEP_TOKENS, 0, 1)
    assert step.preempt == ()


progress = st.builds(
    lambda length, part: Progress(length, min(part, length - 1), -(-min(part, length - 1) // BLOCK)),
    st.integers(1, 600),
    st.integers(0, 600),
)


@given(st.lists(progress, min_size=1, max_size=8), st.integers(0, 40))
def test_the_pool_is_never_overdrawn_and_the_first_always_goes_on(running: list[Progress], free: int) -> None:
    """As long as the pool holds the first alone, as the engine sees to."""
    step = compose(running, free_blocks=free, block_tokens=BLOCK)
    given_back = sum(running[i].blocks for i in step.preempt)
    taken = 0
    for index, (sequence, count) in enumerate(zip(running, step.counts, strict=True)):
        assert 0 <= count <= sequence.tokens - sequence.computed
        if count:
            assert index not in step.preempt
            taken += -(-(sequence.computed + count) // BLOCK) - sequence.blocks
    assert taken <= free + given_back
    pool = free + sum(sequence.blocks for sequence in running)
    if pool >= -(-running[0].tokens // BLOCK):
        assert step.counts[0] > 0
    if step.preempt:
        assert max(step.preempt) == len(running) - 1, "the last in turn first"


def test_the_first_token_waits_for_a_place_and_for_the_prompts_before() -> None:
    step = COST.seconds(tokens=2)
    new = asked(30, turn=5.0)
    assert expected_first_token(new, [], [], places=2, now=100.0, cost=COST) == 100.0 + COST.seconds(tokens=30)
    one_free = expected_first_token(new, [], [40], places=2, now=0.0, cost=COST)
    assert one_free == step + COST.seconds(tokens=30)
    none_free = expected_first_token(new, [], [40, 7], places=2, now=0.0, cost=COST)
    assert none_free == 7 * step + step + COST.seconds(tokens=30)
    behind = expected_first_token(new, [asked(10, turn=1.0, new=20)], [40, 7], places=2, now=0.0, cost=COST)
    assert behind == 27 * step + step + COST.seconds(tokens=40)
    assert expected_first_token(new, [asked(10, turn=9.0)], [40, 7], places=2, now=0.0, cost=COST) == none_free
