"""A service whose model generates text: what the planner is asked, what status says, and what breaks the budget."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from cycle_wire.profile import GenerationRow
from cycle_wire.profile import Histogram as Times
from cycle_wire.serving import ServerConfig
from cycleops.api.conditions import ConditionStatus, ServiceCondition, find_condition
from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice_status import CycleServiceStatus
from cycleops.api.reasons import Reason
from cycleops.service.budget import budget_met
from cycleops.service.evidence import find_evidence
from cycleops.service.histograms import Measured, Quantiles, Window, parse
from cycleops.service.observation import Measurement, Outcome
from cycleops.service.planning import Planning
from cycleops.service.policies import decide
from cycleops.service.question import question
from cycleops.service.server import server_children
from cycleops.service.status import new_status
from tests.unit.service.make import OWNER, deployed, found, hardware, observation, profile, sources, spec

LATENCY = {"percentile": 95, "milliseconds": 4000}
TRAFFIC = {
    "requestsPerSecond": 2,
    "inputTokens": {"p50": 40, "p99": 100},
    "outputTokens": {"p50": 20, "p99": 60},
}


def generation(step_ms: float) -> list[GenerationRow]:
    def times(middle_ms: float) -> Times:
        return Times.of(middle_ms * 1e-3 * (1 + 0.05 * (i - 20) / 20) for i in range(41))

    return [
        GenerationRow(
            concurrency=concurrency,
            prompt_tokens=prompt,
            output_tokens=64,
            pre=times(0.4),
            first_token=times(step_ms * (1 + 0.05 * prompt)),
            per_token=times(step_ms * (0.6 + 0.4 * concurrency)),
            post=times(0.1),
        )
        for concurrency in (1, 4, 8)
        for prompt in (16, 128)
    ]


PROFILES = (
    profile("fp32", rows=[], generation=generation(10.0), f1=0.74),
    profile("int8", rows=[], generation=generation(5.0), f1=0.735),
)


async def planned(**changes: Any) -> Outcome:
    service = spec(**{"traffic": TRAFFIC, "budget": {"latency": LATENCY}, **changes})
    evidence = find_evidence(sources(spec=service, profiles=PROFILES))
    return await Planning().outcome(
        "uid", spec=service, evidence=evidence, classes={"cpu-small": hardware()}, requests_per_second=2.0
    )


async def test_a_plan_has_the_times_of_tokens() -> None:
    caps = {"firstTokenMilliseconds": 200, "perTokenMilliseconds": 15}
    outcome = await planned(budget={"latency": LATENCY, "generation": caps})
    assert outcome.reason is Reason.PLAN_FOUND
    assert outcome.plan is not None
    predicted = outcome.plan.predicted
    assert predicted is not None
    assert 0 < (predicted.first_token_ms or 0) <= 200
    assert 0 < (predicted.per_token_ms or 0) <= 15
    assert outcome.plan.batch_size in (1, 4, 8)
    assert any("time per token" in reason for reason in outcome.plan.reasons)


async def test_lengths_that_are_left_out_are_the_longest_measured() -> None:
    outcome = await planned(traffic={"requestsPerSecond": 2})
    assert outcome.plan is not None
    assert outcome.plan.predicted is not None
    assert outcome.plan.predicted.p50_ms > 64 * 5  # 64 steps of no less than 5 ms


def test_text_is_generated_by_one_process_with_the_cores_of_all() -> None:
    resources = {"requests": {"cpu": 4, "memory": "16Gi"}, "limits": {"cpu": 4, "memory": "16Gi"}}
    four = {"cpu-small": hardware(resources=resources, serverWorkers=4, threads=1)}

    def asked(*profiles: CycleProfile) -> set[tuple[int, float | None]]:
        evidence = find_evidence(sources(profiles=profiles))
        options = question(spec=spec(), evidence=evidence, classes=four, requests_per_second=1.0).candidates
        return {(one.hardware.threads, one.hardware.cpu_limit_cores) for one in options}

    assert asked(*PROFILES) == {(4, 4.0)}
    assert asked(profile("fp32"), profile("int8")) == {(1, 1.0)}


async def test_a_cap_that_nothing_meets_names_the_nearest() -> None:
    outcome = await planned(budget={"latency": LATENCY, "generation": {"perTokenMilliseconds": 2}})
    assert outcome.reason is Reason.STAGE_INFEASIBLE
    assert {nearest.dimension for nearest in outcome.nearest} == {"perToken"}


def window(**terms: float) -> Measurement:
    """All requests in every term alike, in milliseconds."""
    quantiles = {term: Quantiles(p50=value, p99=value, budgeted=value) for term, value in terms.items()}
    return Measurement(
        measured=Measured(
            terms=quantiles,
            requests=500,
            requests_per_second=2.0,
            errors=0,
            hits=0,
            window_seconds=60.0,
            ended_at=1_700_000_000.0,
        )
    )


@pytest.mark.parametrize(
    ("first", "each", "broken"),
    [
        (90.0, 9.0, ""),
        (120.0, 9.0, "firstToken is 120.0 ms, its cap is 100 ms"),
        (90.0, 12.5, "perToken is 12.5 ms, its cap is 10 ms"),
    ],
)
def test_the_term_that_broke_the_budget_is_named(first: float, each: float, broken: str) -> None:
    caps = {"firstTokenMilliseconds": 100, "perTokenMilliseconds": 10}
    seen = observation(
        spec=spec(budget={"latency": LATENCY, "generation": caps}, traffic=TRAFFIC),
        measurement=window(total=900.0, compute=800.0, firstToken=first, perToken=each),
        outcome=found(),
    )
    finding = budget_met(seen)
    assert finding.status is (not broken)
    assert broken in finding.message
    written = CycleServiceStatus.model_validate(new_status(seen, decide(seen), ()))
    assert written.measured is not None
    assert (written.measured.first_token_ms, written.measured.per_token_ms) == (first, each)
    condition = find_condition(written.conditions, ServiceCondition.BUDGET_MET)
    assert condition is not None
    assert condition.status == (ConditionStatus.FALSE if broken else ConditionStatus.TRUE)


def test_the_servers_histograms_of_tokens_are_read() -> None:
    registry = CollectorRegistry()
    bounds = (0.01, 0.02, 0.05, 0.1)
    whole = Histogram("cycle_request_seconds", "T.", ["outcome"], buckets=bounds, registry=registry)
    first = Histogram("cycle_first_token_seconds", "To the first token.", buckets=bounds, registry=registry)
    each = Histogram("cycle_per_token_seconds", "Per token.", buckets=bounds, registry=registry)
    pods = Window(span_seconds=60)
    pods.add({"a": parse(generate_latest(registry).decode())}, now=0)
    for _ in range(40):
        whole.labels("miss").observe(0.09)
        first.observe(0.03)
        each.observe(0.015)
    pods.add({"a": parse(generate_latest(registry).decode())}, now=15)
    measured = pods.measured(percentile=95)
    assert measured is not None
    assert measured.requests == 40
    assert 20 < measured.terms["firstToken"].budgeted <= 50
    assert 10 < measured.terms["perToken"].budgeted <= 20


def test_what_waits_too_long_for_its_first_token_is_refused() -> None:
    """Servers refuse by the first token, not by the whole answer: four of its budgets are overload."""
    caps = {"firstTokenMilliseconds": 100}
    capped = observation(spec=spec(budget={"latency": LATENCY, "generation": caps}, traffic=TRAFFIC))
    decision = decide(capped)
    assert decision.deploy is not None
    assert (decision.deploy.budget_milliseconds, decision.deploy.target_milliseconds) == (400.0, 4000.0)
    without = decide(observation(spec=spec(budget={"latency": LATENCY}, traffic=TRAFFIC)))
    assert without.deploy is not None
    assert without.deploy.budget_milliseconds == 16_000.0


def test_keys_and_values_have_a_quarter_of_the_memory() -> None:
    """A plan's most sequences at once are the server's."""

    def server(**changes: Any) -> ServerConfig:
        service = spec(**changes)
        plan_ = deployed(batch_size=8)
        asked = hardware(resources={"requests": {"cpu": "1", "memory": "8Gi"}})
        children = server_children(owner=OWNER, spec=service, deployed=plan_, hardware=asked, image="server")
        return ServerConfig.model_validate_json(children[0]["data"]["server.json"])

    generating = server(traffic=TRAFFIC, budget={"latency": LATENCY})
    assert (generating.maximum_batch_size, generating.key_value_bytes) == (8, 2 * 1024**3)
    assert server().key_value_bytes is None
