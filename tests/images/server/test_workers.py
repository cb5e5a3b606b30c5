"""A real server with several processes that compute: at the same time, and what happens when one dies or hangs."""

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cycle_server.process import descendants, peak_resident_bytes
from cycle_wire.parts import Variant
from tests.images.server.serving import Running, serving
from tests.images.server.test_overload import eventually, metric
from tests.images.server.variants import write_variant

FAULTY = "tests.images.server.faulty"
TEXTS = ["the cat runs", "a dog", "trees of the sky", "the", "cat cat cat cat cat cat cat"]
OUTPUTS = [{"name": "label"}, {"name": "probabilities"}]
PATIENT = {"workers": 2, "budget_milliseconds": 60_000}


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


def started(hold: Path) -> list[int]:
    """The process of each batch that has started since the file was taken away last."""
    log = hold.with_name(hold.name + ".log")
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def forget(hold: Path) -> None:
    hold.with_name(hold.name + ".log").unlink(missing_ok=True)


def test_answers_are_those_of_one_worker_and_the_front_has_no_torch(folder: Path) -> None:
    requests = [[text] for text in TEXTS] + [TEXTS]
    with serving(folder) as server:
        alone = [server.infer(*texts, outputs=OUTPUTS).body["outputs"] for texts in requests]
    with serving(folder, **PATIENT) as server, ThreadPoolExecutor(8) as pool:
        assert metric(server, "cycle_compute_processes") == 2.0
        for _ in range(4):
            replies = pool.map(lambda texts: server.infer(*texts, outputs=OUTPUTS), requests)
            for reply, expected in zip(replies, alone, strict=True):
                assert reply.status == 200
                for output, same in zip(reply.body["outputs"], expected, strict=True):
                    if output["datatype"] == "BYTES":
                        assert output == same
                    else:
                        assert output["data"] == pytest.approx(same["data"], abs=1e-5)
        assert 20e6 < peak_resident_bytes(server.process.pid) < 2e9
        assert "libtorch" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_two_batches_are_computed_at_the_same_time(folder: Path, hold: Path) -> None:
    env = {"HOLD_FILE": str(hold)}
    with serving(folder, module=FAULTY, env=env, **PATIENT) as server, ThreadPoolExecutor(8) as pool:
        forget(hold)
        hold.touch()
        calls = [pool.submit(server.infer, text) for text in TEXTS]
        eventually(lambda: len(started(hold)) == 2)
        assert len(set(started(hold))) == 2, "both have a batch that started and none has ended"
        assert not any(call.done() for call in calls)
        eventually(lambda: metric(server, "cycle_queue_texts") == len(TEXTS) - 2)  # the last may be on their way still
        hold.unlink()
        assert [call.result().status for call in calls] == [200] * len(TEXTS)


def test_a_killed_worker_loses_no_request_and_is_replaced(folder: Path, hold: Path) -> None:
    env = {"HOLD_FILE": str(hold)}
    with serving(folder, module=FAULTY, env=env, **PATIENT) as server, ThreadPoolExecutor(16) as pool:
        forget(hold)
        hold.touch()
        calls = [pool.submit(server.infer, text) for text in TEXTS * 4]
        eventually(lambda: len(started(hold)) == 2)
        killed = started(hold)[0]
        os.kill(killed, signal.SIGKILL)
        hold.unlink()
        assert Counter(call.result().status for call in calls) == {200: len(calls)}
        eventually(lambda: metric(server, "cycle_compute_processes") == 2.0)
        assert metric(server, "cycle_compute_processes_lost_total") == 1.0
        forget(hold)
        hold.touch()
        calls = [pool.submit(server.infer, text) for text in TEXTS]
        eventually(lambda: len(started(hold)) == 2)
        assert killed not in started(hold) and len(set(started(hold))) == 2
        hold.unlink()
        assert [call.result().status for call in calls] == [200] * len(TEXTS)


def test_a_request_whose_workers_die_twice_is_503_and_the_next_is_answered(folder: Path, hold: Path) -> None:
    env = {"HOLD_FILE": str(hold)}
    with serving(folder, module=FAULTY, env=env, **PATIENT) as server, ThreadPoolExecutor(4) as pool:
        forget(hold)
        hold.touch()
        call = pool.submit(server.infer, "the cat")
        for count in (1, 2):
            eventually(lambda count=count: len(started(hold)) == count)
            os.kill(started(hold)[-1], signal.SIGKILL)
        refused = call.result()
        assert refused.status == 503 and "ended" in refused.body["error"]
        assert metric(server, 'cycle_shed_total{reason="lost"}') == 1.0
        hold.unlink()
        eventually(lambda: server.call("/v2/health/ready").status == 200)
        assert server.infer("the cat").status == 200


def test_a_stuck_worker_is_replaced_while_the_other_answers(folder: Path, hold: Path) -> None:
    env = {"HOLD_FILE": str(hold), "STUCK_SECONDS": "1"}
    with serving(folder, module=FAULTY, env=env, **PATIENT) as server, ThreadPoolExecutor(4) as pool:
        forget(hold)
        assert server.infer("the cat").status == 200
        stuck = started(hold)[0]
        forget(hold)
        hold.write_text(str(stuck))
        calls = [pool.submit(server.infer, text) for text in TEXTS]
        assert [call.result().status for call in calls] == [200] * len(TEXTS)
        eventually(lambda: metric(server, "cycle_compute_processes_lost_total") == 1.0)
        eventually(lambda: metric(server, "cycle_compute_processes") == 2.0)
        assert not Path(f"/proc/{stuck}").exists()
        assert server.call("/v2/health/live").status == 200


def test_a_drain_answers_what_runs_and_leaves_no_process(folder: Path, hold: Path) -> None:
    env = {"HOLD_FILE": str(hold)}
    with serving(folder, module=FAULTY, env=env, **PATIENT) as server, ThreadPoolExecutor(4) as pool:
        forget(hold)
        hold.touch()
        processes = descendants(server.process.pid)
        assert len(processes) == 3, "the template and two workers"
        calls = [pool.submit(server.infer, text) for text in TEXTS[:3]]
        eventually(lambda: len(started(hold)) == 2)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.call("/v2/health/ready").status == 503)
        hold.unlink()
        assert [call.result().status for call in calls] == [200] * 3
        assert server.process.wait(30) == 0
        eventually(lambda: not any(alive(pid) for pid in processes))


def test_no_process_is_left_when_the_server_is_killed(folder: Path, hold: Path) -> None:
    env = {"HOLD_FILE": str(hold)}
    with serving(folder, module=FAULTY, env=env, **PATIENT) as server, ThreadPoolExecutor(4) as pool:
        processes = descendants(server.process.pid)
        forget(hold)
        hold.touch()
        call = pool.submit(server.infer, "the cat")
        eventually(lambda: len(started(hold)) == 1)
        server.process.kill()
        eventually(lambda: not any(alive(pid) for pid in processes))
        assert call.exception() is not None


def alive(pid: int) -> bool:
    """Not a zombie that nobody has waited for."""
    try:
        return re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is None
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_without_the_process_that_starts_others_the_server_is_not_live(folder: Path) -> None:
    with serving(folder, **PATIENT) as server:
        (template,) = children(server)
        os.kill(template, signal.SIGKILL)
        eventually(lambda: server.infer("the cat").status == 503)
        eventually(lambda: server.call("/v2/health/live").status == 503)
        assert server.call("/v2/health/ready").status == 503


def children(server: Running) -> set[int]:
    return {pid for pid in descendants(server.process.pid) if parent_of(pid) == server.process.pid}


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_variant_that_is_wrong_ends_the_server_with_its_reason(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"nothing")
    with serving(broken, wait=False, **PATIENT) as server:
        assert server.process.wait(60) == 3
