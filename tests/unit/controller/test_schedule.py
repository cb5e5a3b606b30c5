"""The queue's rules, under random use: a key is never worked on twice at once, never lost, and waits at most once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from cycleops.controller.schedule import LAST_RETRY_SECONDS, Schedule, retry_delay_seconds

KEYS = st.sampled_from(["a", "b", "c"])
DELAYS = st.floats(min_value=0.0, max_value=100.0)


class ScheduleMachine(RuleBasedStateMachine):
    """``owed`` is a model of what must still be handed out: the earliest time asked for, by key."""

    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.schedule: Schedule[str] = Schedule()
        self.now = 0.0
        self.owed: dict[str, float] = {}
        self.active: set[str] = set()

    @rule(key=KEYS, delay=DELAYS)
    def ask(self, key: str, delay: float) -> None:
        at = self.now + delay
        self.schedule.ask(key, at=at)
        self.owed[key] = min(at, self.owed.get(key, at))

    @rule(seconds=DELAYS)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=taken)
    def take(self) -> str:
        result = self.schedule.take(now=self.now)
        due = {key: at for key, at in self.owed.items() if at <= self.now and key not in self.active}
        if result is None:
            assert not due
            return ""
        assert result.key in due, "handed out early, twice, or while active"
        assert due[result.key] == min(due.values()), "someone else waited longer"
        assert result.waited_seconds == self.now - due[result.key]
        del self.owed[result.key]
        self.active.add(result.key)
        return result.key

    @rule(key=consumes(taken))
    def succeed(self, key: str) -> None:
        if key:
            self.schedule.succeed(key)
            self.active.discard(key)

    @rule(key=consumes(taken), jitter=st.floats(min_value=0.0, max_value=0.99))
    def fail(self, key: str, jitter: float) -> None:
        if key:
            self.owed[key] = self.now + self.schedule.fail(key, now=self.now, jitter=jitter)
            self.active.discard(key)

    @invariant()
    def next_at_is_the_earliest_that_can_start(self) -> None:
        waiting = [at for key, at in self.owed.items() if key not in self.active]
        assert self.schedule.next_at() == (min(waiting) if waiting else None)

    @invariant()
    def counts_agree(self) -> None:
        assert self.schedule.active == len(self.active)
        ready = [key for key, at in self.owed.items() if at <= self.now and key not in self.active]
        assert self.schedule.depth(now=self.now) == len(ready)


TestScheduleMachine = ScheduleMachine.TestCase


@given(failures=st.integers(min_value=1, max_value=10_000), jitter=st.floats(min_value=0.0, max_value=0.99))
def test_retry_delay_stays_between_half_a_second_and_five_minutes(failures: int, jitter: float) -> None:
    assert 0.5 <= retry_delay_seconds(failures=failures, jitter=jitter) <= LAST_RETRY_SECONDS


def test_retry_delay_doubles() -> None:
    delays = [retry_delay_seconds(failures=n, jitter=0.0) for n in range(1, 11)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


def test_success_forgets_failures() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.ask("a", at=0.0)
    now = 0.0
    for expected in (1.0, 2.0):
        assert schedule.take(now=now) is not None
        assert schedule.fail("a", now=now, jitter=0.0) == pytest.approx(expected)
        now += expected
    assert schedule.take(now=now) is not None
    schedule.succeed("a")
    schedule.ask("a", at=now)
    assert schedule.take(now=now) is not None
    assert schedule.fail("a", now=now, jitter=0.0) == pytest.approx(1.0)
