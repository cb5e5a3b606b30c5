"""The real server process under overload and faults: who is answered, who is told to come again, what is computed."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cycle_wire.parts import Variant
from tests.images.server.serving import Running, serving
from tests.images.server.variants import write_variant

FAULTY = "tests.images.server.faulty"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("variants") / "v"
    write_variant(path, variant=Variant(name="v"))
    return path


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "hold"
    yield path
    path.unlink(missing_ok=True)


def metric(server: Running, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.call("/metrics").body, re.MULTILINE)
    return float(found[1]) if found else 0.0


def computed_texts(server: Running) -> float:
    return metric(server, "cycle_batch_size_sum")


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ask(server: Running, *, texts: int) -> socket.socket:
    """A request whose answer nobody has read yet."""
    tensor = {"name": "text", "shape": [texts], "datatype": "BYTES", "data": ["the cat"] * texts}
    body = json.dumps({"inputs": [tensor]}).encode()
    client = socket.create_connection(("127.0.0.1", server.port))
    head = (
        f"POST /v2/models/m/infer HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    client.sendall(head.encode() + b"\r\n\r\n" + body)
    return client


def test_nothing_is_computed_for_clients_that_are_gone(folder: Path, hold: Path) -> None:
    settings = {"maximum_batch_size": 4, "budget_milliseconds": 60_000}
    with serving(folder, module=FAULTY, env={"HOLD_FILE": str(hold)}, **settings) as server:
        hold.touch()
        stays = ask(server, texts=20)
        eventually(lambda: metric(server, "cycle_queue_texts") == 16.0)
        others = [ask(server, texts=20) for _ in range(9)]
        eventually(lambda: metric(server, "cycle_queue_texts") == 196.0)
        for client in others:
            client.close()
        eventually(lambda: metric(server, "cycle_queue_texts") == 16.0)
        hold.unlink()
        assert b" 200 OK" in stays.recv(4096)
        assert server.infer("the cat").status == 200
        eventually(lambda: computed_texts(server) == 21.0)
        stays.close()
        assert server.infer("the cat").status == 200
        eventually(lambda: computed_texts(server) == 22.0)


def test_a_tenant_over_its_rate_gets_429_and_another_an_answer(folder: Path) -> None:
    with serving(folder, tenant_texts_per_second=0.01, tenant_burst_texts=2) as server:
        mine, other = {"X-Cycle-Tenant": "a"}, {"X-Cycle-Tenant": "b", "X-Cycle-Priority": "batch"}
        assert [server.infer("the cat", headers=mine).status for _ in range(2)] == [200, 200]
        refused = server.infer("the cat", headers=mine)
        assert refused.status == 429
        assert 90 <= int(refused.headers["Retry-After"]) <= 100
        assert server.infer("the cat", headers=other).status == 200
        assert server.infer("the cat", headers={"X-Cycle-Priority": "high"}).body["field"] == "X-Cycle-Priority"
        assert server.infer("the cat", headers={"X-Cycle-Tenant": "a b"}).body["field"] == "X-Cycle-Tenant"
        assert metric(server, 'cycle_shed_total{reason="rate"}') == 1.0


def test_a_flood_of_one_tenant_leaves_room_for_another(folder: Path, hold: Path) -> None:
    settings = {"queue_limit": 8, "budget_milliseconds": 60_000}
    with (
        serving(folder, module=FAULTY, env={"HOLD_FILE": str(hold)}, **settings) as server,
        ThreadPoolExecutor(32) as pool,
    ):
        hold.touch()
        flood = [pool.submit(server.infer, "the cat", headers={"X-Cycle-Tenant": "flood"}) for _ in range(20)]
        eventually(lambda: metric(server, 'cycle_shed_total{reason="queue"}') == 11.0)
        quiet = [pool.submit(server.infer, "the cat", headers={"X-Cycle-Tenant": "quiet"}) for _ in range(2)]
        eventually(lambda: metric(server, 'cycle_shed_total{reason="displaced"}') == 2.0)
        hold.unlink()
        assert [call.result().status for call in quiet] == [200, 200]
        assert sorted(call.result().status for call in flood) == [200] * 7 + [503] * 13


def test_a_stuck_compute_thread_is_not_ready_not_live_and_sheds(folder: Path, hold: Path) -> None:
    env = {"HOLD_FILE": str(hold), "STUCK_SECONDS": "1"}
    with (
        serving(folder, module=FAULTY, env=env, budget_milliseconds=2000) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        assert server.call("/v2/health/live").status == 200
        hold.touch()
        held = pool.submit(server.infer, "the cat")
        eventually(lambda: metric(server, "cycle_requests_in_flight") == 1.0)
        behind = server.infer("the cat")
        assert behind.status == 503, "it waits until its deadline only"
        eventually(lambda: server.call("/v2/health/live").status == 503)
        assert server.call("/v2/health/ready").status == 503
        assert "hangs" in server.infer("the cat").body["error"]
        hold.unlink()
        assert held.result().status == 200
        eventually(lambda: server.call("/v2/health/ready").status == 200)
        assert server.infer("the cat").status == 200


def test_too_little_memory_is_503_for_what_is_large_and_a_restart_when_nothing_runs_any_more(
    folder: Path, tmp_path: Path
) -> None:
    """Allocations of torch fail for real, those of batches above a size (a limit of the process's address space fails
    others first, which ones depends on the processor's kernels).
    """
    room, long_text = tmp_path / "room", "the cat " * 60  # 48 tokens are read
    settings = {"maximum_batch_size": 8, "budget_milliseconds": 60_000}
    with serving(folder, module=FAULTY, env={"ROOM_FILE": str(room)}, **settings) as server:
        room.write_text("100")
        refused = server.infer(*[long_text] * 8)
        assert (refused.status, "memory" in refused.body["error"]) == (503, True)
        assert int(refused.headers["Retry-After"]) >= 1
        # The batch and its halves, counted once they are answered.
        eventually(lambda: metric(server, 'cycle_compute_faults_total{kind="memory"}') == 3.0)
        assert server.infer(*[long_text] * 3).status == 200, "its halves fit"
        assert server.infer("the cat").status == 200
        assert server.call("/v2/health/live").status == 200
        room.write_text("1")
        assert [server.infer("the cat").status for _ in range(8)] == [503] * 8
        eventually(lambda: server.call("/v2/health/live").status == 503)
        assert server.call("/v2/health/ready").status == 503
        assert "fails" in server.infer("the cat").body["error"]
