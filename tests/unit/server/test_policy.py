"""The batching policy, as properties of every decision."""

import itertools
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cycle_server.batching.cost import Cost, fit
from cycle_server.batching.policy import Flow, Limits, Priority, Waiting, decide, expected_finish

NOW = 100.0


@st.composite
def waiting_lists(draw: st.DrawFn, *, maximum_batch_size: int) -> list[Waiting]:
    pieces = []
    for _ in range(draw(st.integers(0, 12))):
        arrival = NOW - draw(st.floats(0, 0.5))
        texts = draw(st.integers(1, maximum_batch_size))
        pieces.append(
            Waiting(
                texts=texts,
                tokens=texts * draw(st.integers(1, 128)),
                arrival=arrival,
                deadline=arrival + draw(st.floats(0, 2)),
                turn=draw(st.floats(0, 3)),
                flow=Flow(priority=draw(st.sampled_from(Priority))),
            )
        )
    return pieces


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Waiting], Limits, Cost]:
    size = draw(st.integers(1, 16))
    limits = Limits(maximum_batch_size=size, maximum_delay_seconds=draw(st.sampled_from([0.0, 0.002, 0.05])))
    cost = Cost(
        fixed_seconds=draw(st.floats(0, 0.01)),
        token_seconds=draw(st.floats(1e-6, 1e-3)),
        deviation=draw(st.sampled_from([0.0, 0.1])),
    )
    return draw(waiting_lists(maximum_batch_size=size)), limits, cost


@given(situations())
def test_a_batch_fits_and_meets_the_deadlines_it_took(situation: tuple[list[Waiting], Limits, Cost]) -> None:
    waiting, limits, cost = situation
    decision = decide(waiting, now=NOW, limits=limits, cost=cost)
    taken = [waiting[i] for i in decision.take]
    assert sum(w.texts for w in taken) <= limits.maximum_batch_size
    finish = NOW + cost.seconds(tokens=sum(w.tokens for w in taken))
    assert all(finish <= w.deadline for w in taken)


@given(situations())
def test_only_what_cannot_be_in_time_is_dropped(situation: tuple[list[Waiting], Limits, Cost]) -> None:
    waiting, limits, cost = situation
    decision = decide(waiting, now=NOW, limits=limits, cost=cost)
    late = {i for i, w in enumerate(waiting) if NOW + cost.seconds(tokens=w.tokens) > w.deadline}
    assert set(decision.drop) == late
    assert not late & set(decision.take)


@given(situations())
def test_what_is_left_is_run_or_waited_for(situation: tuple[list[Waiting], Limits, Cost]) -> None:
    waiting, limits, cost = situation
    decision = decide(waiting, now=NOW, limits=limits, cost=cost)
    if len(decision.drop) == len(waiting):
        assert decision.take == ()
        assert decision.wait_until is None
    elif decision.take:
        assert decision.wait_until is None
        left = [waiting[i] for i in range(len(waiting)) if i not in decision.drop]
        first = waiting[decision.take[0]]
        assert first.turn == min(w.turn for w in left) or first.deadline == min(w.deadline for w in left)
    else:
        assert decision.wait_until is not None
        assert decision.wait_until > NOW
        left = [waiting[i] for i in range(len(waiting)) if i not in decision.drop]
        assert decision.wait_until <= min(w.arrival for w in left) + limits.maximum_delay_seconds
        tokens = sum(w.tokens for w in left)
        assert decision.wait_until + cost.seconds(tokens=tokens) <= min(w.deadline for w in left)


def run_all(waiting: list[Waiting], *, limits: Limits, cost: Cost) -> int:
    """How many miss their deadlines when nothing else comes and batches take what they cost."""
    left, now, missed = list(waiting), NOW, 0
    while left:
        decision = decide(left, now=now, limits=limits, cost=cost)
        missed += len(decision.drop)
        if decision.take:
            now += cost.seconds(tokens=sum(left[i].tokens for i in decision.take))
            missed += sum(now > left[i].deadline + 1e-9 for i in decision.take)
        elif decision.wait_until is not None:
            now = decision.wait_until
        left = [w for i, w in enumerate(left) if i not in {*decision.take, *decision.drop}]
    return missed


def can_be_met(waiting: list[Waiting], *, cost: Cost) -> bool:
    """Whether some order, one piece at a time, meets all deadlines: tries every order."""
    for order in itertools.permutations(waiting):
        now, met = NOW, True
        for piece in order:
            now += cost.seconds(tokens=piece.tokens)
            met = met and now <= piece.deadline - 1e-9
        if met:
            return True
    return False


@settings(deadline=None)
@given(st.data(), st.sampled_from([(1, 0.0), (1, 0.005), (4, 0.0)]), st.sampled_from([0.0, 0.02]))
def test_all_deadlines_are_met_whenever_some_order_meets_them(
    data: st.DataObject, shape: tuple[int, float], delay: float
) -> None:
    """With a fixed part of the cost and larger batches, filling a batch can pay off in ways that no order of single
    pieces shows; so the two are varied apart."""
    size, fixed = shape
    cost = Cost(fixed_seconds=fixed, token_seconds=1e-3, deviation=0.0)
    tight = st.floats(0.01, 0.8)
    waiting = [
        Waiting(
            texts=1,
            tokens=data.draw(st.integers(1, 100)),
            arrival=NOW,
            deadline=NOW + data.draw(tight),
            turn=data.draw(st.floats(0, 1)),
            flow=Flow(priority=data.draw(st.sampled_from(Priority))),
        )
        for _ in range(data.draw(st.integers(1, 5)))
    ]
    assume(can_be_met(waiting, cost=cost))
    limits = Limits(maximum_batch_size=size, maximum_delay_seconds=delay)
    assert run_all(waiting, limits=limits, cost=cost) == 0


def test_by_deadlines_a_batch_is_not_filled_past_one_that_would_be_late_then() -> None:
    """The second by deadline can't join the first's batch; three that have time would make it wait too long."""
    cost = Cost(fixed_seconds=0.0, token_seconds=1e-3, deviation=0.0)
    pieces = [(1, 0.5), (66, 0.125), (1, 0.5), (60, 0.15625), (29, 0.5)]
    waiting = [Waiting(texts=1, tokens=t, arrival=NOW, deadline=NOW + d, turn=0.0, flow=Flow()) for t, d in pieces]
    assert can_be_met(waiting, cost=cost)
    assert run_all(waiting, limits=Limits(maximum_batch_size=4, maximum_delay_seconds=0.0), cost=cost) == 0


@given(situations())
def test_waiting_to_the_end_closes_the_batch(situation: tuple[list[Waiting], Limits, Cost]) -> None:
    waiting, limits, cost = situation
    first = decide(waiting, now=NOW, limits=limits, cost=cost)
    if first.wait_until is not None:
        then = decide(waiting, now=first.wait_until, limits=limits, cost=cost)
        assert then.take or then.drop


def test_a_full_batch_does_not_wait() -> None:
    limits = Limits(maximum_batch_size=2, maximum_delay_seconds=1.0)
    waiting = [Waiting(texts=1, tokens=8, arrival=NOW, deadline=NOW + 5)] * 2
    assert decide(waiting, now=NOW, limits=limits, cost=Cost(0.0, 1e-4)).take == (0, 1)


def test_a_near_deadline_closes_early() -> None:
    limits = Limits(maximum_batch_size=8, maximum_delay_seconds=1.0)
    waiting = [Waiting(texts=1, tokens=100, arrival=NOW, deadline=NOW + 0.9)]
    steady = decide(waiting, now=NOW, limits=limits, cost=Cost(0.0, 1e-3, deviation=0.0)).wait_until
    unsteady = decide(waiting, now=NOW, limits=limits, cost=Cost(0.0, 1e-3, deviation=0.5)).wait_until
    assert steady is not None
    assert unsteady is not None
    assert abs(steady - (NOW + 0.8)) < 1e-9
    assert abs(unsteady - (NOW + 0.6)) < 1e-9, "batches that vary more close earlier"


def test_nobody_who_waits_is_held_up_by_work_that_has_time() -> None:
    limits, cost = Limits(maximum_batch_size=4, maximum_delay_seconds=0.0), Cost(0.0, 1e-4)
    person = Waiting(texts=1, tokens=8, arrival=NOW, deadline=NOW + 5, turn=2.0)
    program = Waiting(texts=1, tokens=8, arrival=NOW, deadline=NOW + 9, turn=3.0, flow=Flow(Priority.BATCH))
    assert decide([program, person], now=NOW, limits=limits, cost=cost).take == (1,)
    early = replace(program, turn=1.0)
    assert decide([early, person], now=NOW, limits=limits, cost=cost).take == (0, 1), "at its turn others may join"


def test_a_long_text_does_not_join_when_it_would_break_the_first_deadline() -> None:
    limits = Limits(maximum_batch_size=8, maximum_delay_seconds=0.0)
    soon = Waiting(texts=1, tokens=10, arrival=NOW, deadline=NOW + 0.02)  # by turns it would be too late
    long = Waiting(texts=1, tokens=100, arrival=NOW, deadline=NOW + 1)
    short = Waiting(texts=1, tokens=5, arrival=NOW, deadline=NOW + 2)
    assert decide([long, soon, short], now=NOW, limits=limits, cost=Cost(0.0, 1e-3)).take == (1, 2)


def test_expected_finish_counts_the_running_batch_and_earlier_turns() -> None:
    limits = Limits(maximum_batch_size=2, maximum_delay_seconds=0.0)
    cost = Cost(fixed_seconds=0.01, token_seconds=0.001)
    waiting = [Waiting(texts=1, tokens=10, arrival=NOW, deadline=NOW + 9, turn=turn) for turn in (1, 2, 9)]
    new = Waiting(texts=1, tokens=10, arrival=NOW, deadline=NOW + 2, turn=2)
    finish = expected_finish(new, waiting, free=[NOW + 0.5], limits=limits, cost=cost)
    assert abs(finish - (NOW + 0.5 + 2 * 0.01 + 30 * 0.001)) < 1e-9


def test_expected_finish_shares_what_waits_among_the_threads() -> None:
    limits = Limits(maximum_batch_size=1, maximum_delay_seconds=0.0)
    cost = Cost(fixed_seconds=0.0, token_seconds=0.01)
    waiting = [Waiting(texts=1, tokens=10, arrival=NOW, deadline=NOW + 9, turn=turn) for turn in (1, 2)]
    new = Waiting(texts=1, tokens=10, arrival=NOW, deadline=NOW + 2, turn=3)
    # 0.1 s each: from 0.3 and from 0.35 on, so the third starts at 0.4.
    finish = expected_finish(new, waiting, free=[NOW + 0.35, NOW + 0.3], limits=limits, cost=cost)
    assert abs(finish - (NOW + 0.5)) < 1e-9
    assert abs(expected_finish(new, [], free=[NOW, NOW], limits=limits, cost=cost) - (NOW + 0.1)) < 1e-9


@given(situations(), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_another_thread_never_makes_the_answer_later(
    situation: tuple[list[Waiting], Limits, Cost], after: list[float]
) -> None:
    waiting, limits, cost = situation
    new = Waiting(texts=1, tokens=10, arrival=NOW, deadline=NOW, turn=9.0)
    free = [NOW + seconds for seconds in after]
    fewer = expected_finish(new, waiting, free=free, limits=limits, cost=cost)
    assert expected_finish(new, waiting, free=[*free, NOW], limits=limits, cost=cost) <= fewer + 1e-9


def test_turns_yield_to_deadlines_only_when_no_other_thread_can_help() -> None:
    limits = Limits(maximum_batch_size=1, maximum_delay_seconds=0.0)
    cost = Cost(fixed_seconds=0.0, token_seconds=0.01)
    first = Waiting(texts=1, tokens=10, arrival=NOW, deadline=NOW + 9, turn=1.0)
    urgent = Waiting(texts=1, tokens=10, arrival=NOW, deadline=NOW + 0.15, turn=2.0)
    assert decide([first, urgent], now=NOW, limits=limits, cost=cost).take == (1,)
    assert decide([first, urgent], now=NOW, limits=limits, cost=cost, others=[NOW + 0.04]).take == (0,)
    assert decide([first, urgent], now=NOW, limits=limits, cost=cost, others=[NOW + 0.06]).take == (1,)


@given(
    st.floats(1e-6, 0.05), st.floats(2e-6, 1e-3), st.lists(st.integers(1, 4096), min_size=2, max_size=12, unique=True)
)
def test_the_fit_finds_the_line_that_made_the_samples(fixed: float, per_token: float, sizes: list[int]) -> None:
    cost = fit([(tokens, fixed + per_token * tokens) for tokens in sizes])
    for tokens in sizes:
        assert abs(cost.seconds(tokens=tokens) - (fixed + per_token * tokens)) < 1e-6 + 1e-6 * tokens


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(1e-6, 10)), min_size=1, max_size=12))
def test_a_cost_is_never_negative(samples: list[tuple[int, float]]) -> None:
    cost = fit(samples)
    assert cost.fixed_seconds >= 0
    assert cost.token_seconds > 0


def test_the_cost_follows_a_slower_machine() -> None:
    cost = Cost(fixed_seconds=0.001, token_seconds=0.0001)
    for _ in range(100):
        cost = cost.after(tokens=100, seconds=0.033)
    assert abs(cost.seconds(tokens=100) - 0.033) < 0.001
