"""gRPC calls through a real HAProxy to the sidecar: questions, answers, outcomes and refusals as over HTTP."""

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from cycle_server.protocol import grpc_messages
from cycle_server.protocol import open_inference_pb2 as messages
from cycle_server.protocol.grpc_status import SERVICE
from cycle_server.protocol.timing import parse_timing
from tests.unit.server.sidecar.calls_door import calls_door
from tests.unit.server.sidecar.pods import URL, Pod, make_pod

Metadata = Sequence[tuple[str, str]]


@dataclass
class Calls:
    pod: Pod
    channel: grpc.aio.Channel

    async def call(self, method: str, request: Message, **options: Any) -> tuple[Any, dict[str, str]]:
        """The answer, and the metadata that it began with."""
        answer = getattr(messages, f"{method}Response")
        ask = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        call = ask(request, **options)
        found = await call
        return found, dict(await call.initial_metadata())

    async def infer(
        self,
        text: str = "a",
        *,
        metadata: Metadata = (),
        raw: bool = False,
        wait_seconds: float = 10,
        compression: grpc.Compression | None = None,
        **fields: Any,
    ) -> tuple[str, str, str]:
        """Outcome, the number that the upstream gave its answer, and the answer's id."""
        options = {"metadata": metadata, "timeout": wait_seconds, "compression": compression}
        answer, said = await self.call("ModelInfer", message(text, raw=raw, **fields), **options)
        data = answer.raw_output_contents[0][4:] if raw else answer.outputs[0].contents.bytes_contents[0]
        return said["x-cycle-cache"], data.decode(), answer.id


def message(text: str, *, raw: bool = False, **fields: Any) -> messages.ModelInferRequest:
    data = text.encode()
    tensor = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    if raw:
        fields["raw_input_contents"] = [len(data).to_bytes(4, "little") + data]
    else:
        tensor.contents.bytes_contents.append(data)
    return messages.ModelInferRequest(**({"model_name": "m", "inputs": [tensor]} | fields))


@pytest.fixture
async def calls() -> AsyncIterator[Calls]:
    async for pod in make_pod(grpc=True):
        with calls_door(pod.port) as port:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Calls(pod, channel)


async def test_a_question_of_one_protocol_is_a_hit_for_the_other(calls: Calls) -> None:
    assert await calls.pod.ask("a") == ("miss", "1")
    assert await calls.infer("a", id="seven") == ("hit", "1", "seven")
    assert await calls.infer("a", raw=True) == ("hit", "1", "")
    assert await calls.infer("b", raw=True, id="8") == ("miss", "2", "8")
    assert await calls.pod.ask("b") == ("hit", "2")
    assert await calls.infer("b", raw=True, id="8") == ("hit", "2", "8")  # known by its bytes
    assert len(calls.pod.upstream.requests) == 2


async def test_what_an_answer_depends_on_is_told_apart(calls: Calls) -> None:
    output = messages.ModelInferRequest.InferRequestedOutputTensor(name="label")
    asked: list[dict[str, Any]] = [
        {}, {"metadata": (("x-cycle-tenant", "a"),)}, {"metadata": (("x-cycle-tenant", "b"),)}, {"outputs": [output]},
        {"parameters": {"a": messages.InferParameter(int64_param=1)}},
        {"parameters": {"a": messages.InferParameter(string_param="1")}},
    ]  # fmt: skip
    for number, one in enumerate(asked, 1):
        assert await calls.infer("a", **one) == ("miss", str(number), "")
    for number, one in enumerate(asked, 1):
        assert await calls.infer("a", **one) == ("hit", str(number), "")
    assert await calls.pod.ask("a", headers={"X-Cycle-Tenant": "b"}) == ("hit", "3")
    assert await calls.pod.ask("a", outputs=[{"name": "label"}]) == ("hit", "4")


async def test_what_is_said_of_binary_answers_is_for_http(calls: Calls) -> None:
    parameters = {"binary_data_output": messages.InferParameter(bool_param=True)}
    assert await calls.infer("a", parameters=parameters) == ("miss", "1", "")
    assert await calls.infer("a") == ("hit", "1", "")


async def test_no_store_and_bypass_hold_here_too(calls: Calls) -> None:
    for said in (("cache-control", "no-store"), ("x-cycle-cache", "bypass")):
        assert (await calls.infer("a", metadata=(said,)))[0] == "bypass"
    assert await calls.infer("a") == ("miss", "3", "")
    assert await calls.infer("a", metadata=(("cache-control", "no-cache"),)) == ("miss", "4", "")


async def test_the_same_question_at_once_is_asked_once_whatever_the_protocol(calls: Calls) -> None:
    calls.pod.upstream.go.clear()
    tasks = [asyncio.create_task(calls.infer("a", id=str(i))) for i in range(4)]
    other = asyncio.create_task(calls.pod.ask("a"))
    await asyncio.sleep(0.2)
    calls.pod.upstream.go.set()
    found = await asyncio.gather(*tasks)
    assert sorted([outcome for outcome, _, _ in found] + [(await other)[0]]) == ["coalesced"] * 4 + ["miss"]
    assert [request_id for _, _, request_id in found] == ["0", "1", "2", "3"]
    assert len(calls.pod.upstream.requests) == 1


async def test_timing_and_age_are_said_as_over_http(calls: Calls) -> None:
    _, miss = await calls.call("ModelInfer", message("a"))
    _, hit = await calls.call("ModelInfer", message("a"))
    assert parse_timing(miss["server-timing"])["compute"] == 0.005
    assert set(parse_timing(hit["server-timing"])) == {"cache"}
    assert hit["age"] == "0"
    assert int(miss["x-cycle-elapsed-us"]) > int(hit["x-cycle-elapsed-us"]) >= 0


async def test_ids_deadlines_and_priority_reach_the_server(calls: Calls) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    said = (("x-request-id", "r1"), ("traceparent", trace), ("x-cycle-priority", "batch"))
    await calls.infer("a", metadata=said, wait_seconds=20)
    found = {name.lower(): value for name, value in calls.pod.upstream.headers[0].items()}
    assert (found["x-request-id"], found["traceparent"], found["x-cycle-priority"]) == ("r1", trace, "batch")
    assert found["content-type"] == "application/json"
    assert 0 < float(found["x-cycle-deadline-ms"]) <= 20_500  # gRPC rounds time-outs up
    for number, (said_deadline, expected) in enumerate((("5", "5"), ("soon", "soon"))):
        await calls.infer(str(number), metadata=(("x-cycle-deadline-ms", said_deadline),))
        assert calls.pod.upstream.headers[-1]["X-Cycle-Deadline-Ms"] == expected


async def refusal(calls: Calls, *, metadata: Metadata = (), **fields: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await calls.infer("a", metadata=metadata, **fields)
    return error.value


async def test_a_server_that_sheds_is_unavailable_and_says_when_to_come_again(calls: Calls) -> None:
    calls.pod.upstream.statuses = [503, 429, 500]
    for code, trailing in (
        (grpc.StatusCode.UNAVAILABLE, {"retry-after": "3", "grpc-retry-pushback-ms": "3000"}),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, {"retry-after": "3", "grpc-retry-pushback-ms": "3000"}),
        (grpc.StatusCode.INTERNAL, {}),
    ):
        error = await refusal(calls)
        assert (error.code(), error.details()) == (code, "shed")
        assert trailing.items() <= dict(error.trailing_metadata()).items()
    assert (await calls.infer("a"))[0] == "miss"


async def test_what_is_no_request_names_the_field_and_is_counted(calls: Calls) -> None:
    error = await refusal(calls, inputs=[])
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith("inputs: ")
    ask = calls.channel.unary_unary(f"/{SERVICE}/ModelInfer")
    with pytest.raises(grpc.aio.AioRpcError) as broken:
        await ask(b"\x0a\xff")
    assert (broken.value.code(), broken.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "body: isn't a ModelInferRequest",
    )
    async with calls.pod.client.get("/metrics") as response:
        assert 'cycle_requests_total{code="400",outcome="bypass"} 2.0' in await response.text()


async def test_a_message_may_be_compressed_and_is_not_inflated_beyond_the_limit(calls: Calls) -> None:
    assert await calls.infer("a" * 1000, compression=grpc.Compression.Gzip) == ("miss", "1", "")
    assert await calls.infer("a" * 1000, compression=grpc.Compression.Deflate) == ("hit", "1", "")
    for size, compression in ((100_000_000, grpc.Compression.Gzip), (3_000_000, grpc.Compression.NoCompression)):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await calls.infer("a" * size, compression=compression)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (error.value.details() or "").startswith("body: longer than ")
    assert await calls.infer("a") == ("miss", "2", "")
    with gzip.GzipFile(fileobj=(packed := io.BytesIO()), mode="wb") as file:
        file.write(message("a").SerializeToString())
    for body, encoding, code in (
        (packed.getvalue()[:-9], "gzip", "3"), (packed.getvalue(), "deflate", "3"), (packed.getvalue(), "br", "12"),
    ):  # fmt: skip
        assert (await plain_call(calls, b"\1" + len(body).to_bytes(4, "big") + body, encoding))["Grpc-Status"] == code


async def test_a_balancer_that_goes_down_closes_its_connections_with_the_answer(calls: Calls) -> None:
    sent = message("a").SerializeToString()
    body = b"\0" + len(sent).to_bytes(4, "big") + sent
    reader, writer = await asyncio.open_connection("127.0.0.1", calls.pod.port)
    head = f"POST /{SERVICE}/ModelInfer HTTP/1.1\r\nHost: m\r\nContent-Type: application/grpc\r\nConnection: close"
    writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    async with asyncio.timeout(5):
        answer = await reader.read()  # until it is closed
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n0\r\ngrpc-status: 0\r\n\r\n")


async def test_what_is_no_unary_call_is_refused(calls: Calls) -> None:
    for body in (b"", b"\0\0\0\0\2a", 2 * b"\0\0\0\0\0"):
        assert (await plain_call(calls, body))["Grpc-Status"] == "3"
    ask = calls.channel.unary_unary(f"/{SERVICE}/ModelStreamInfer")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ask(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def plain_call(calls: Calls, body: bytes, encoding: str = "identity") -> Mapping[str, str]:
    """The headers of the answer, over HTTP/1.1 straight from the sidecar."""
    headers = {"Content-Type": "application/grpc", "grpc-encoding": encoding}
    async with calls.pod.client.post(f"/{SERVICE}/ModelInfer", data=body, headers=headers) as response:
        assert response.status == 200
        return response.headers


async def test_equal_bytes_of_two_protocols_are_two_questions(calls: Calls) -> None:
    """A message that is also sent as a body over HTTP is no JSON there, and does not find what gRPC kept."""
    sent = message("a").SerializeToString()
    assert await calls.infer("a") == ("miss", "1", "")
    async with calls.pod.client.post(URL, data=sent) as response:
        assert (response.status, response.headers["X-Cycle-Cache"]) == (400, "bypass")


async def test_health_and_metadata_are_the_servers(calls: Calls) -> None:
    assert (await calls.call("ServerLive", messages.ServerLiveRequest()))[0].live
    assert (await calls.call("ServerReady", messages.ServerReadyRequest()))[0].ready
    assert (await calls.call("ModelReady", messages.ModelReadyRequest(name="m")))[0].ready
    assert (await calls.call("ServerMetadata", messages.ServerMetadataRequest()))[0].version == "7"
    metadata, _ = await calls.call("ModelMetadata", messages.ModelMetadataRequest(name="m"))
    assert [tensor.name for tensor in metadata.outputs] == ["label", "probability", "probabilities"]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await calls.call("ModelMetadata", messages.ModelMetadataRequest(name="a/b"))
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.NOT_FOUND, "unknown model 'a/b'")
    calls.pod.upstream.is_ready = False
    assert not (await calls.call("ServerReady", messages.ServerReadyRequest()))[0].ready
    assert not (await calls.call("ModelReady", messages.ModelReadyRequest(name="m")))[0].ready
    calls.pod.upstream.is_ready = True
    calls.pod.drain.begin()
    assert not (await calls.call("ServerReady", messages.ServerReadyRequest()))[0].ready


async def test_a_call_that_is_given_up_tells_the_server(calls: Calls) -> None:
    calls.pod.upstream.go.clear()
    with pytest.raises(grpc.aio.AioRpcError):
        await calls.infer("a", wait_seconds=0.2)
    async with asyncio.timeout(2):
        while calls.pod.upstream.cancelled == 0:  # noqa: ASYNC110 - the handler is elsewhere
            await asyncio.sleep(0.01)
    assert calls.pod.drain.in_flight == 0


async def test_calls_are_in_flight_for_the_drain(calls: Calls) -> None:
    calls.pod.upstream.go.clear()
    task = asyncio.create_task(calls.infer("a"))
    async with asyncio.timeout(5):
        while calls.pod.drain.in_flight == 0:  # noqa: ASYNC110 - the handler is elsewhere
            await asyncio.sleep(0.01)
    calls.pod.upstream.go.set()
    await task
    assert calls.pod.drain.in_flight == 0


def test_floats_are_those_of_json() -> None:
    values = [0.1, 1 / 3, 0.9312000274658203]
    tensor = {"name": "probability", "datatype": "FP32", "shape": [3], "data": values}
    sent = json.dumps({"model_name": "m", "model_version": "1", "id": "x", "outputs": [tensor]}).encode()
    answer = grpc_messages.of_json(sent, raw=False)
    assert list(answer.outputs[0].contents.fp32_contents) == pytest.approx(values, rel=1e-7)
    assert (answer.id, answer.model_version) == ("x", "1")
