"""Spans as a real OTLP receiver gets them, and that nothing is there when nothing is configured."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from cycle_server.tracing import begun, trace_id, tracing
from tests.unit.server.sidecar.pods import body, make_pod

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Receiver:
    """Takes OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.services: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        export = ExportTraceServiceRequest.FromString(await request.read())
        for resource in export.resource_spans:
            named = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            self.services |= set(named)
            self.spans |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    found, app = Receiver(), web.Application()
    app.router.add_post("/v1/traces", found.take)
    server = TestServer(app)
    await server.start_server()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", str(server.make_url("")).rstrip("/"))
    yield found
    await server.close()


def attributes(span: Span) -> dict[str, str | int]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


async def test_a_request_is_a_span_and_each_term_one_below_it(receiver: Receiver) -> None:
    made = tracing("cycle-server")
    assert made is not None
    with begun(made, "infer", {"traceparent": TRACEPARENT}) as span:
        assert span is not None
        inner = span.traceparent
        span.end(terms={"pre": 0.001, "queue": 0.002, "compute": 0.004}, status=200)
    await asyncio.to_thread(made.close)
    assert set(receiver.spans) == {"infer", "pre", "queue", "compute"}
    assert receiver.services == {"cycle-server"}
    infer = receiver.spans["infer"]
    assert (infer.trace_id.hex(), infer.parent_span_id.hex()) == (TRACE, PARENT)
    assert inner == f"00-{TRACE}-{infer.span_id.hex()}-01"
    terms = [receiver.spans[name] for name in ("pre", "queue", "compute")]
    assert {span.parent_span_id for span in terms} == {infer.span_id}
    assert [span.end_time_unix_nano - span.start_time_unix_nano for span in terms] == [1e6, 2e6, 4e6]
    assert terms[1].start_time_unix_nano == terms[0].end_time_unix_nano


async def test_an_exception_ends_the_span_as_an_error(receiver: Receiver) -> None:
    made = tracing("cycle-server")
    with pytest.raises(ValueError), begun(made, "infer", {}):
        raise ValueError("broken")
    assert made is not None
    await asyncio.to_thread(made.close)
    assert receiver.spans["infer"].status.code == Status.STATUS_CODE_ERROR


async def test_a_trace_that_is_not_sampled_is_not_exported(receiver: Receiver) -> None:
    made = tracing("cycle-server")
    assert made is not None
    with begun(made, "infer", {"traceparent": TRACEPARENT[:-1] + "0"}):
        pass
    await asyncio.to_thread(made.close)
    assert not receiver.spans


async def test_the_sidecars_span_has_the_outcome_and_is_the_servers_parent(receiver: Receiver) -> None:
    async for pod in make_pod():
        headers = {"traceparent": TRACEPARENT, "X-Request-Id": "seven"}
        async with pod.client.post("/v2/models/m/infer", data=body("a"), headers=headers) as response:
            assert response.status == 200
        seen = {name.lower(): value for name, value in pod.upstream.headers[0].items()}
    cache = receiver.spans["cache"]  # a sidecar that stops sends what it has
    assert (cache.trace_id.hex(), cache.parent_span_id.hex()) == (TRACE, PARENT)
    assert seen["traceparent"] == f"00-{TRACE}-{cache.span_id.hex()}-01"
    assert seen["x-request-id"] == "seven"
    assert attributes(cache) == {"cycle.outcome": "miss", "http.response.status_code": 200}


def test_without_an_endpoint_nothing_of_it_is_loaded() -> None:
    check = (
        "import os, sys; os.environ.pop('OTEL_EXPORTER_OTLP_ENDPOINT', None);"
        "from cycle_server.tracing import tracing; assert tracing('x') is None;"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False, env={"PYTHONPATH": "server_image"}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("header", "found"),
    [(TRACEPARENT, TRACE), (TRACEPARENT[:-1] + "0", None), ("", None), ("00-a-b-01", None), ("x" * 500, None)],
)
def test_only_a_sampled_trace_is_an_exemplar(header: str, found: str | None) -> None:
    assert trace_id(header) == found
