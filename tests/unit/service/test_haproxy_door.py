"""Who gets in, and what follows a request: with a real HAProxy."""

import asyncio
import re
import ssl
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from tests.unit.service.conftest import Running
from tests.unit.service.doors import KEYS

TRACE = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-01")
KEYS_ONLY, TLS_ONLY = {"keys": True}, {"tls": True}


def seen(running: Running, pod: str) -> CIMultiDictProxy[str]:
    """Headers of the last request as the pod got them."""
    return next(p for p in running.pods if p.address == pod).headers


async def test_a_request_without_a_trace_gets_one_of_its_own(running: Running) -> None:
    found = set()
    for _ in range(20):
        _, pod, _ = await running.ask()
        match = TRACE.fullmatch(seen(running, pod)["traceparent"])
        assert match is not None
        found |= {match[1], match[2]}
    assert len(found) == 40


@pytest.mark.parametrize("bad", ["", "00-xyz", "01-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "A" * 32 + "-b-01"])
async def test_a_malformed_trace_is_replaced(running: Running, bad: str) -> None:
    _, pod, _ = await running.ask(headers={"traceparent": bad})
    assert TRACE.fullmatch(seen(running, pod)["traceparent"])


@pytest.mark.parametrize("bad", ["x" * 129, "two words", 'quo"te', "semi;colon"])
async def test_a_request_id_that_could_spoil_a_log_is_replaced(running: Running, bad: str) -> None:
    _, _, headers = await running.ask(headers={"X-Request-Id": bad})
    assert len(headers["X-Request-Id"]) == 36


async def test_an_error_of_the_balancer_has_the_request_id_too(running: Running) -> None:
    running.names.addresses.clear()
    await running.until(lambda up: up == 0)
    status, _, headers = await running.ask(headers={"X-Request-Id": "mine"})
    assert (status, headers["X-Request-Id"]) == (503, "mine")


@pytest.mark.parametrize("guard", [{"headers": {"Authorization": "Bearer {}"}}, {"headers": {"X-API-Key": "{}"}}])
@pytest.mark.parametrize("running", [KEYS_ONLY], indirect=True)
async def test_a_key_says_who_the_tenant_is_and_goes_no_further(
    running: Running, guard: dict[str, dict[str, str]]
) -> None:
    for key, tenant in KEYS.items():
        headers = {name: value.format(key) for name, value in guard["headers"].items()}
        status, pod, _ = await running.ask(headers={**headers, "X-Cycle-Tenant": "someone else"})
        got = seen(running, pod)
        assert (status, got["X-Cycle-Tenant"]) == (200, tenant)
        assert not {"Authorization", "X-API-Key"} & got.keys()


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}, {"Authorization": "Bearer "}, {"Authorization": "Basic Zm9v"},
        {"Authorization": "Bearer correct-horse-extra"}, {"X-Cycle-Tenant": "team-a"}, {"X-API-Key": "x" * 5000},
    ],
)  # fmt: skip
@pytest.mark.parametrize("running", [KEYS_ONLY], indirect=True)
async def test_without_a_good_key_nothing_reaches_a_pod(running: Running, headers: dict[str, str]) -> None:
    status, _, said = await running.ask(headers=headers)
    assert (status, said["WWW-Authenticate"]) == (401, "Bearer")
    assert sum(pod.answered for pod in running.pods) == 0


@pytest.mark.parametrize("running", [KEYS_ONLY], indirect=True)
async def test_no_log_and_no_configuration_holds_a_key(running: Running, tmp_path: Path) -> None:
    for pod in running.pods:
        pod.status = 500
    for key in KEYS:
        await running.ask(headers={"X-API-Key": key, "X-Request-Id": "find-me"})
    texts = await asyncio.to_thread(lambda: [file.read_text() for file in tmp_path.iterdir()])
    assert any("find-me" in text and "team-a" in text for text in texts)
    assert not [key for key in KEYS for text in texts if key in text]


@pytest.mark.parametrize("running", [TLS_ONLY], indirect=True)
async def test_tls_is_all_it_speaks(running: Running, tmp_path: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(tmp_path / "tls.pem"))
    url = running.url.replace("http://", "https://")
    async with running.session.post(url, data=b"{}", ssl=trusted) as response:
        assert response.status == 200
    with pytest.raises(aiohttp.ClientError):
        await running.ask()
