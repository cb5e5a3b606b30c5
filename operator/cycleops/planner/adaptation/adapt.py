"""One step of adaptation: measurements in, replicas out. Pure: the clock is an argument, the state a value.

1. no news for stale_seconds?   a condition; nothing is taken away
2. learn                        slowness, lateness beyond it (contention), rate (forecast), late answers (account)
3. need                         fewest replicas that hold the forecast's upper end until a new one could be ready
4. up at once, down after hold  warming replicas count as ordered: they are not ordered twice
"""

from dataclasses import dataclass

from cycleops.planner.adaptation.account import Account, book
from cycleops.planner.adaptation.attainment import Attainment
from cycleops.planner.adaptation.contention import Contention, contend, steady
from cycleops.planner.adaptation.correction import correct
from cycleops.planner.adaptation.forecast import observe
from cycleops.planner.adaptation.model import AdaptSettings, Decision, Measurement, Reason, State, Target
from cycleops.planner.adaptation.watch import watch

_EASE = 0.02  # fewer replicas must hold a rate higher by this share: the hysteresis beside the time


@dataclass(frozen=True, kw_only=True)
class _Need:
    """``now``: for the forecast; None when the most don't suffice. ``kept``: for a surge like the last.

    ``fewer``: what would do for both with some more, which is what taking away asks for.
    """

    rate: float
    goal: float
    now: int | None
    kept: int
    fewer: int


def adapt(
    state: State,
    measurement: Measurement | None,
    now: float,
    *,
    attainment: Attainment,
    target: Target,
    settings: AdaptSettings,
) -> tuple[State, Decision]:
    """``measurement``: the newest window, None when there is none; one that was seen already is no news.

    ``now``: seconds since the epoch. The state after it is to be handed in again.
    """
    if measurement is not None and (state.measured_at is None or measurement.ended_at > state.measured_at):
        state = _learn(state, measurement, attainment=attainment, target=target, settings=settings)
    if state.measured_at is None or now - state.measured_at > settings.stale_seconds:
        return _stale(state, now, target)
    need = _need(state, attainment=attainment, target=target, settings=settings)
    return _decide(state, need, now, target=target, settings=settings)


def _learn(
    state: State, seen: Measurement, *, attainment: Attainment, target: Target, settings: AdaptSettings
) -> State:
    correction = state.correction
    computed = seen.arrivals if seen.computed is None else seen.computed
    if seen.compute_seconds is not None and seen.ready_replicas:
        replicas = min(seen.ready_replicas, attainment.maximum_replicas)
        expected = attainment.expected_compute_seconds(
            replicas=replicas, rate_per_second=computed / seen.window_seconds, slowness=correction.slowness
        )
        elapsed = seen.window_seconds if state.measured_at is None else seen.ended_at - state.measured_at
        correction = correct(
            correction,
            ratio=seen.compute_seconds / expected * correction.slowness,
            requests=seen.answered if seen.computed is None else seen.computed,
            elapsed_seconds=elapsed,
        )
    forecast = observe(state.rate, arrivals=seen.arrivals, window_seconds=seen.window_seconds, ended_at=seen.ended_at)
    return State(
        replicas=state.replicas,
        measured_at=seen.ended_at,
        fewer_since=state.fewer_since,
        fewer_most=state.fewer_most,
        rate=forecast,
        correction=correction,
        contention=_contention(state, seen, correction.slowness, attainment=attainment, target=target),
        account=book(
            state.account,
            arrivals=seen.arrivals,
            late=seen.late + seen.refused,
            share=target.late_share,
            window_seconds=seen.window_seconds,
            memory_seconds=settings.memory_seconds,
        ),
        watch=watch(
            state.watch,
            lengths=seen.lengths,
            labels=seen.labels,
            season_before=state.rate.season,
            season=forecast.season,
        ),
    )


def _contention(
    state: State, seen: Measurement, slowness: float, *, attainment: Attainment, target: Target
) -> Contention:
    """Only of windows that the table is about: every replica that was ordered is there, and the rate is steady."""
    rate, requests = seen.arrivals / seen.window_seconds, seen.answered + seen.refused
    comparable = seen.ready_replicas == state.replicas and state.measured_at is not None
    if not comparable or not requests or not steady(rate_per_second=rate, level_per_second=state.rate.level):
        return state.contention.model_copy(update={"windows": 0})
    replicas = min(seen.ready_replicas, attainment.maximum_replicas)

    def late_share_at(factor: float) -> float:
        return 1 - attainment.share_within(replicas=replicas, rate_per_second=factor * rate, slowness=slowness)

    return contend(
        state.contention,
        requests=requests,
        late=seen.late + seen.refused,
        allowed=target.late_share,
        elapsed_seconds=seen.window_seconds,
        late_share_at=late_share_at,
    )


def _stale(state: State, now: float, target: Target) -> tuple[State, Decision]:
    age = "ever" if state.measured_at is None else f"for {now - state.measured_at:.0f} s"
    replicas = min(max(state.replicas, target.minimum_replicas), target.maximum_replicas)
    state = state.model_copy(update={"fewer_since": None, "replicas": replicas})
    message = f"no measurement {age}: {replicas} replica(s) stay, since no news is not no traffic"
    return state, Decision(
        replicas=replicas,
        reason=Reason.STALE,
        message=message,
        needed=None,
        forecast_per_second=0.0,
        stale=True,
        profile_stale=_profile_stale(state),
    )


def _need(state: State, *, attainment: Attainment, target: Target, settings: AdaptSettings) -> _Need:
    share = state.account.allowance(
        share=target.late_share, repay_seconds=settings.repay_seconds, most=settings.most, least=settings.least
    )
    rate, goal = _provided_rate(state, target, settings), 1 - share
    slow, counts = state.correction.slowness, state.contention.factor

    def replicas(factor: float) -> int | None:
        return attainment.replicas_for(rate_per_second=factor * counts * rate, goal=goal, slowness=slow)

    ease = 1 + _EASE
    return _Need(
        rate=rate,
        goal=goal,
        now=replicas(1.0),
        kept=_kept(state.account, slow, counts, attainment, target),
        fewer=max(
            replicas(ease) or target.maximum_replicas, _kept(state.account, slow * ease, counts, attainment, target)
        ),
    )


def _provided_rate(state: State, target: Target, settings: AdaptSettings) -> float:
    """The forecast's upper end until a replica ordered at the next step would be ready.

    Extrapolated no further than to what the user declared; a higher rate has to be seen.
    """
    ahead = settings.interval_seconds + target.startup_seconds
    now, then = (state.rate.upper(ahead_seconds=s, deviations=settings.deviations) for s in (0.0, ahead))
    return max(now, min(settings.headroom * max(now, then), target.declared_per_second))


def _kept(account: Account, slowness: float, counts: float, attainment: Attainment, target: Target) -> int:
    """Fewest replicas with which another surge like the costliest would be affordable; 0 when there is no reason."""
    affordable = account.affordable()
    if affordable is None:
        return 0
    late = min(max(affordable / account.surge_late, target.late_share), 1.0)
    rate = max(account.surge_rate, min(account.surge_to_provide_for, target.declared_per_second))
    enough = attainment.replicas_for(rate_per_second=counts * rate, goal=1 - late, slowness=slowness)
    return target.maximum_replicas if enough is None else enough


def _decide(
    state: State, need: _Need, now: float, *, target: Target, settings: AdaptSettings
) -> tuple[State, Decision]:
    least, most = target.minimum_replicas, target.maximum_replicas
    before = min(max(state.replicas, least), most)
    wanted = min(max(most if need.now is None else need.now, need.kept, least), most)
    fewer = min(max(need.fewer, least), most)
    hold = max(settings.hold_seconds, 2 * target.startup_seconds)
    replicas, since, top = before, None, 0
    if wanted > before:
        replicas = wanted
        reason = Reason.SURGE_KEPT if need.kept > (need.now or most) else Reason.RATE_GROWS
    elif fewer < before:
        since = now if state.fewer_since is None else state.fewer_since
        top = max(fewer, state.fewer_most if state.fewer_since is not None else 0)
        reason = Reason.HELD
        if now - since >= hold:
            replicas, since, reason = top, (now if fewer < top else None), Reason.FEWER_DO
            top = fewer if since is not None else 0
    else:
        reason = Reason.SURGE_KEPT if need.kept > (need.now or most) else Reason.ENOUGH
    if need.now is None or need.now > most:
        reason = Reason.AT_MAXIMUM
    state = state.model_copy(update={"replicas": replicas, "fewer_since": since, "fewer_most": top})
    message = _message(state, need, reason, before, hold - (now - since) if since is not None else 0.0)
    return state, Decision(
        replicas=replicas,
        reason=reason,
        message=message,
        needed=need.now,
        forecast_per_second=need.rate,
        profile_stale=_profile_stale(state),
    )


def _profile_stale(state: State) -> tuple[str, ...]:
    if not state.correction.profile_is_stale:
        return state.watch.findings
    low, high = state.correction.interval()
    return f"compute takes {low:.2f} to {high:.2f} x what the profile says", *state.watch.findings


def _message(state: State, need: _Need, reason: Reason, before: int, left_seconds: float) -> str:
    low, high = state.correction.interval()
    basis = (
        f"{need.rate:.1f} requests/s at most until a new replica could be ready, {state.rate.level:.1f} now; compute "
        f"{state.correction.slowness:.2f} x the profile ({low:.2f} to {high:.2f}); {1 - need.goal:.1%} may be late"
    )
    if state.contention.factor > 1 + _EASE:
        basis += (
            f"; the rate counts {state.contention.factor:.2f} times, since more were late than it and compute explain"
        )
    does = {
        Reason.RATE_GROWS: f"{state.replicas} replicas instead of {before}",
        Reason.FEWER_DO: f"{state.replicas} replica(s) instead of {before}",
        Reason.HELD: f"{need.fewer} would do; {before} stay for {left_seconds:.0f} s more",
        Reason.SURGE_KEPT: (
            f"{state.replicas} replicas for a surge to {state.account.surge_rate:.1f} requests/s: the last made "
            f"{state.account.surge_late:.0f} late, and the account has {state.account.balance:.0f}"
        ),
        Reason.AT_MAXIMUM: f"{state.replicas} replicas, the most allowed, do not suffice",
    }
    return f"{does.get(reason, f'{state.replicas} replica(s) do')}: {basis}"
