"""Shares of the compute thread, of the queue and of the rate, as properties."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from cycle_server.batching.cost import Cost
from cycle_server.batching.fairness import MAXIMUM_FLOWS, Turns
from cycle_server.batching.policy import Flow, Limits, Priority, Waiting, decide, displaced
from cycle_server.batching.rate import MAXIMUM_TENANTS, RateLimits

COST = Cost(fixed_seconds=0.0, token_seconds=1e-3, deviation=0.0)
FAR = 1e6
flows = st.builds(Flow, priority=st.sampled_from(Priority), tenant=st.sampled_from("abcd"))


class Busy:
    """A server whose flows always have ``depth`` pieces waiting; runs batch after batch."""

    def __init__(self, sizes: dict[Flow, int], *, depth: int, batch: int) -> None:
        self._sizes = sizes
        self._limits = Limits(maximum_batch_size=batch, maximum_delay_seconds=0.0)
        self._turns = Turns()
        self.waiting: list[Waiting] = []
        self.served: Counter[Flow] = Counter()  # tokens
        self._now = 0.0
        for _ in range(depth):
            for flow in sizes:
                self._add(flow)

    def _add(self, flow: Flow) -> None:
        tokens = self._sizes[flow]
        turn = self._turns.give(flow, seconds=COST.seconds(tokens=tokens))
        self.waiting.append(Waiting(1, tokens, arrival=self._now, deadline=FAR, turn=turn, flow=flow))

    def run_batch(self) -> None:
        taken = [self.waiting[i] for i in decide(self.waiting, now=self._now, limits=self._limits, cost=COST).take]
        assert taken
        self.waiting = [piece for piece in self.waiting if piece not in taken]
        left = min((piece.turn for piece in self.waiting), default=None)
        self._turns.served(max(piece.turn for piece in taken), earliest_waiting=left)
        for piece in taken:
            self._now += COST.seconds(tokens=piece.tokens)
            self.served[piece.flow] += piece.tokens
            self._add(piece.flow)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(flows, st.integers(1, 60), min_size=2, max_size=5))
def test_whoever_always_waits_gets_the_share_of_their_weight(sizes: dict[Flow, int]) -> None:
    """Within the bound of start-time fair queueing: two flows' service over weight differs by their largest pieces."""
    busy = Busy(sizes, depth=3, batch=1)
    for _ in range(400):
        busy.run_batch()
    for a in sizes:
        for b in sizes:
            bound = sizes[a] / a.weight + sizes[b] / b.weight
            assert abs(busy.served[a] / a.weight - busy.served[b] / b.weight) <= bound + 1e-6


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(1, 60), st.integers(1, 60))
def test_work_that_has_time_never_starves(batch: int, person_tokens: int, program_tokens: int) -> None:
    person, program = Flow(Priority.INTERACTIVE), Flow(Priority.BATCH)
    busy = Busy({person: person_tokens, program: program_tokens}, depth=2 * batch, batch=batch)
    for _ in range(300):
        busy.run_batch()
    assert busy.served[program] > 0
    assert busy.served[program] * person.weight >= 0.8 * busy.served[person] * program.weight


def test_after_a_flood_of_one_tenant_another_is_next() -> None:
    turns = Turns()
    flood = [turns.give(Flow(tenant="flood"), seconds=1.0) for _ in range(100)]
    turns.served(flood[3], earliest_waiting=flood[4])
    turn = turns.give(Flow(tenant="quiet"), seconds=1.0)
    assert flood[3] <= turn <= flood[4]


def test_a_pause_earns_no_credit() -> None:
    turns = Turns()
    for _ in range(10):
        turns.served(turns.give(Flow(tenant="a"), seconds=1.0), earliest_waiting=None)
    first = [turns.give(Flow(tenant=name), seconds=1.0) for name in "ab"]
    assert first[0] == first[1], "who was away is not owed the time, who was served owes none when nobody waited"


def test_invented_tenants_share_one_turn() -> None:
    turns = Turns()
    for i in range(MAXIMUM_FLOWS):
        turns.give(Flow(tenant=str(i)), seconds=1.0)
    assert turns.give(Flow(tenant="x"), seconds=1.0) < turns.give(Flow(tenant="y"), seconds=1.0)


@settings(deadline=None)
@given(st.lists(flows, min_size=1, max_size=30), flows)
def test_a_full_queue_takes_from_whoever_has_most_for_their_weight(queue: list[Flow], new: Flow) -> None:
    waiting = [Waiting(1, 1, arrival=0, deadline=FAR, turn=float(i), flow=flow) for i, flow in enumerate(queue)]
    held = Counter(queue)
    index = displaced(waiting, by=new)
    if index is None:
        assert all(held[flow] / flow.weight <= (held[new] + 1) / new.weight for flow in held)
    else:
        victim = queue[index]
        assert victim != new
        assert held[victim] / victim.weight == max(held[flow] / flow.weight for flow in held if flow != new)
        assert held[victim] / victim.weight > (held[new] + 1) / new.weight
        assert victim not in queue[index + 1 :], "the newest goes"


@settings(deadline=None)
@given(
    st.floats(0.5, 100),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 20)), min_size=1, max_size=60),
)
def test_no_tenant_exceeds_rate_and_burst(rate: float, burst: int, arrivals: list[tuple[float, int]]) -> None:
    limits, now, passed = RateLimits(texts_per_second=rate, burst=burst), 0.0, 0
    largest = max(texts for _, texts in arrivals)
    for gap, texts in arrivals:
        now += gap
        wait = limits.take("a", texts=texts, now=now)
        assert wait >= 0
        if not wait:
            passed += texts
        assert passed <= max(burst, largest) + rate * now + 1e-6


@settings(deadline=None)
@given(st.floats(0.5, 100), st.integers(1, 5), st.integers(1, 40))
def test_who_keeps_to_the_rate_always_passes(rate: float, burst: int, requests: int) -> None:
    limits = RateLimits(texts_per_second=rate, burst=burst)
    for i in range(requests):
        now = i * 1.001 / rate
        limits.take("flood", texts=100, now=now)
        assert limits.take("quiet", texts=1, now=now) == 0


@settings(deadline=None)
@given(st.floats(0.5, 100), st.integers(1, 50), st.integers(1, 100))
def test_after_the_wait_it_passes(rate: float, burst: int, texts: int) -> None:
    limits = RateLimits(texts_per_second=rate, burst=burst)
    assert limits.take("a", texts=texts, now=0.0) == 0, "a full bucket lets anything pass, in debt if need be"
    wait = limits.take("a", texts=texts, now=0.0)
    if wait:
        assert limits.take("a", texts=texts, now=wait * 1.001 + 1e-6) == 0


def test_invented_tenants_share_one_bucket() -> None:
    limits = RateLimits(texts_per_second=0.001, burst=1)
    for i in range(MAXIMUM_TENANTS):
        assert limits.take(str(i), texts=1, now=0.0) == 0
    assert limits.take("x", texts=1, now=0.0) == 0
    assert limits.take("y", texts=1, now=0.0) > 0
    later = 2000.0  # the buckets are full again and forgotten
    assert limits.take("z", texts=1, now=later) == 0
    assert limits.take("w", texts=1, now=later) == 0
