"""The balancer's configuration: valid to the real HAProxy, and doing what its text promises."""

import asyncio
import math
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cycleops.api.cycleservice import BalancingAlgorithm
from cycleops.service.haproxy import ERRORS_IN_A_ROW, GRPC_PORT, Balancer, render
from cycleops.service.haproxy_door import Door
from tests.unit.service.conftest import Running, write_configuration
from tests.unit.service.doors import write_door

BALANCER = Balancer(
    algorithm=BalancingAlgorithm.LEAST_CONNECTIONS, pods_name="supersense-pods.demo.svc.cluster.local", slots=12,
    budget_milliseconds=80, target_milliseconds=80, connections_per_pod=256, drain_seconds=25,
)  # fmt: skip


@pytest.fixture(
    params=[(False, False), (True, False), (False, True), (True, True)], ids=["open", "tls", "keys", "both"]
)
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Door:
    tls, keys = request.param
    return write_door(tmp_path, tls=tls, keys=keys)


@pytest.mark.parametrize("algorithm", list(BalancingAlgorithm))
@pytest.mark.parametrize("budget_milliseconds", [0.1, 80, 600_000])
@pytest.mark.parametrize("grpc_port", [0, GRPC_PORT])
def test_the_real_haproxy_accepts_it(
    algorithm: BalancingAlgorithm, budget_milliseconds: float, grpc_port: int, door: Door, tmp_path: Path
) -> None:
    balancer = replace(
        BALANCER, algorithm=algorithm, budget_milliseconds=math.ceil(budget_milliseconds), grpc_port=grpc_port,
        target_milliseconds=budget_milliseconds, door=door, config_folder=str(tmp_path),
    )  # fmt: skip
    file = write_configuration(balancer)
    result = subprocess.run(["haproxy", "-c", "-q", "-f", str(file)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_pods_are_hashed_by_address_so_that_two_balancers_agree() -> None:
    assert "hash-key addr" in render(replace(BALANCER, algorithm=BalancingAlgorithm.CONSISTENT_HASH))
    assert "hash-key" not in render(BALANCER)


@pytest.mark.parametrize("running", [{"algorithm": BalancingAlgorithm.ROUND_ROBIN}], indirect=True)
async def test_round_robin_shares_evenly(running: Running) -> None:
    answers = Counter([(await running.ask())[1] for _ in range(20)])
    assert answers == {"127.0.1.1": 10, "127.0.1.2": 10}


async def test_least_connections_keeps_off_a_slow_pod(running: Running) -> None:
    running.pods[0].delay_seconds = 0.5
    results = await asyncio.gather(*(running.ask() for _ in range(2)))
    await asyncio.gather(*(running.ask() for _ in range(2)))
    assert {status for status, _, _ in results} == {200}
    running.pods[0].answered = running.pods[1].answered = 0
    slow = [asyncio.create_task(running.ask()) for _ in range(2)]  # one of them waits in the slow pod
    await asyncio.sleep(0.1)
    quick = Counter([(await running.ask())[1] for _ in range(6)])
    await asyncio.gather(*slow)
    assert quick == {"127.0.1.2": 6}


@pytest.mark.parametrize("running", [{"algorithm": BalancingAlgorithm.CONSISTENT_HASH}], indirect=True)
async def test_the_same_body_or_affinity_goes_to_the_same_pod(running: Running) -> None:
    by_body = {body: {(await running.ask(body))[1] for _ in range(4)} for body in (b"a%d" % i for i in range(16))}
    assert all(len(pods) == 1 for pods in by_body.values())
    assert len(set.union(*by_body.values())) == 2
    by_header = {(await running.ask(b"b%d" % i, {"X-Cycle-Affinity": "user 7"}))[1] for i in range(16)}
    assert len(by_header) == 1


async def test_headers_pass_and_every_request_has_an_id(running: Running) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    status, pod, headers = await running.ask(headers={"traceparent": trace})
    seen = next(p for p in running.pods if p.address == pod).headers
    assert status == 200
    assert headers["Server-Timing"].startswith("queue;dur=1.500, pre;dur=0.200, transport;dur=")
    assert seen["traceparent"] == trace
    assert len(headers["X-Request-Id"]) == 36
    assert seen["X-Request-Id"] == headers["X-Request-Id"]
    assert (await running.ask(headers={"X-Request-Id": "mine"}))[2]["X-Request-Id"] == "mine"


async def test_a_dead_pod_costs_no_request(running: Running) -> None:
    await running.pods[0].stop()
    results = [await running.ask() for _ in range(30)]
    assert Counter((status, pod) for status, pod, _ in results) == {(200, "127.0.1.2"): 30}
    await running.pods[0].start()
    await running.until(lambda up: up == 2)
    assert {(await running.ask())[1] for _ in range(10)} == {"127.0.1.1", "127.0.1.2"}


async def test_a_draining_pod_finishes_what_it_has_and_gets_nothing_new(running: Running) -> None:
    leaving = running.pods[0]
    leaving.delay_seconds = 2.5
    under_way = [asyncio.create_task(running.ask()) for _ in range(2)]
    await asyncio.sleep(0.1)
    leaving.ready = False
    running.names.addresses.remove(leaving.address)
    await running.until(lambda up: up == 1)
    assert Counter([(await running.ask())[1] for _ in range(10)]) == {"127.0.1.2": 10}
    assert sorted((status, pod) for status, pod, _ in await asyncio.gather(*under_way)) == [
        (200, "127.0.1.1"),
        (200, "127.0.1.2"),
    ]


async def test_no_pod_is_a_quick_503_that_says_when_to_come_back(running: Running) -> None:
    running.names.addresses.clear()
    await running.until(lambda up: up == 0)
    async with asyncio.timeout(0.5):
        status, _, headers = await running.ask()
    assert (status, headers["Retry-After"], headers["Content-Type"]) == (503, "1", "application/json")
    assert (await running.admin("/healthz"))[0] == 200  # HAProxy itself is well
    assert (await running.admin("/started"))[0] == 503  # a new one would not be sent requests


async def test_a_balancer_has_started_when_it_knows_a_pod(running: Running) -> None:
    assert (await running.admin("/started"))[0] == 200


async def test_a_pod_killed_before_it_answered_costs_no_request(running: Running) -> None:
    running.pods[0].dies = True
    results = [await running.ask() for _ in range(20)]
    assert Counter((status, pod) for status, pod, _ in results) == {(200, "127.0.1.2"): 20}


async def test_an_answer_that_is_an_error_is_never_asked_for_again(running: Running) -> None:
    for pod in running.pods:
        pod.status = 503
    assert [(await running.ask())[0] for _ in range(5)] == [503] * 5
    assert sum(pod.answered for pod in running.pods) == 5


async def test_a_pod_that_only_fails_is_left_alone_and_comes_back(running: Running) -> None:
    failing = running.pods[0]
    failing.status = 500
    while (await running.ask())[0] != 500:
        pass
    for _ in range(4 * ERRORS_IN_A_ROW):
        await running.ask()
    lines = (await running.admin("/metrics"))[1].splitlines()
    downs = [line for line in lines if line.startswith('haproxy_server_check_up_down_total{proxy="pods"')]
    assert sum(int(line.rpartition(" ")[2]) for line in downs) >= 1
    failing.status = 200
    await running.until(lambda up: up == 2)
    assert {(await running.ask())[1] for _ in range(10)} == {"127.0.1.1", "127.0.1.2"}


async def test_when_all_pods_fail_they_are_asked_all_the_same(running: Running) -> None:
    for pod in running.pods:
        pod.status = 500
    assert Counter([(await running.ask())[0] for _ in range(80)]) == {500: 80}  # never the balancer's own 503
    for pod in running.pods:
        pod.status = 200
    assert Counter([(await running.ask())[0] for _ in range(20)]) == {200: 20}


async def test_overload_is_a_503_within_the_budget_not_a_long_wait(running: Running) -> None:
    for pod in running.pods:
        pod.delay_seconds = 1.0
    results = await asyncio.gather(*(running.ask() for _ in range(2 * 64 + 10)))
    shed = [headers for status, _, headers in results if status == 503]
    assert len(shed) == 10
    assert all(headers["Retry-After"] == "1" for headers in shed)


async def test_a_stopping_balancer_answers_what_it_has(running: Running) -> None:
    for pod in running.pods:
        pod.delay_seconds = 1.0
    under_way = asyncio.create_task(running.ask())
    await asyncio.sleep(0.2)
    running.process.send_signal(signal.SIGUSR1)  # the image's stop signal
    assert (await under_way)[0] == 200
    assert await asyncio.to_thread(running.process.wait, 10) == 0


async def test_its_metrics_count_every_arrival(running: Running) -> None:
    for _ in range(3):
        await running.ask()
    text = (await running.admin("/metrics"))[1]
    line = next(
        line for line in text.splitlines() if line.startswith('haproxy_frontend_http_requests_total{proxy="requests"')
    )
    assert line.endswith(" 3")
