"""Text generation through the cache: whole answers, and streams that are passed on while they are collected.

Only what every asking gives again is kept: the likeliest tokens (temperature 0), and a stream only when its [DONE] has
come. Drawn answers, and what can't be read, go to the server as they are. A streamed and a whole answer to the same
question are two entries. Who asks what another is being answered asks the server too: streams are not coalesced.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import ClientError, web
from pydantic import ValidationError

from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.generation import DONE, GenerateRequest, parse_generate
from cycle_server.protocol.openai_text import ChatRequest, CompletionRequest
from cycle_server.protocol.timing import hit_headers, sidecar_headers
from cycle_server.server.metrics import observe
from cycle_server.sidecar.key import Identity
from cycle_server.sidecar.metrics import SidecarMetrics
from cycle_server.sidecar.responder import Asked, Responder, directives
from cycle_server.sidecar.upstream import LONGEST_ANSWER_BYTES, Upstream, returned_headers
from cycle_server.tracing import TRACE_HEADER
from cycle_wire.headers import CACHE_HEADER

KEY_SCHEMA = 1  # raised whenever the same key would mean another answer
JSON = "application/json"
EVENTS = "text/event-stream"

Question = GenerateRequest | ChatRequest | CompletionRequest


def _read(kind: type[ChatRequest] | type[CompletionRequest]) -> Callable[[bytes], Question]:
    return kind.model_validate_json


READERS: dict[str, Callable[[bytes], Question]] = {
    "/generate": parse_generate,
    "/v1/chat/completions": _read(ChatRequest),
    "/v1/completions": _read(CompletionRequest),
}


def question_key(path: str, body: bytes, *, tenant: str, identity: Identity) -> tuple[bytes, str] | None:
    """The key and the answer's content type; None when the answer may differ each time, or it is no question at all."""
    try:
        question = READERS[path](body)
    except (ValidationError, ProtocolError):
        return None
    if not question.all_wishes.sampling.deterministic:
        return None
    asked = {
        "generation": KEY_SCHEMA,
        "path": path,
        "tenant": tenant,
        "digest": identity.model_digest,
        "variant": identity.variant,
        "request": question.canonical(),
    }
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).digest(), EVENTS if question.canonical()["stream"] else JSON


class Generations:
    def __init__(self, responder: Responder, *, upstream: Upstream, metrics: SidecarMetrics) -> None:
        self._responder = responder
        self._upstream = upstream
        self._metrics = metrics

    async def answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Raises what Upstream does before the answer has begun; after that the connection is cut."""
        arrived = time.perf_counter()
        asked = Asked(path=request.raw_path, headers=request.headers, body=body)
        control = directives(request.headers)
        found = None
        if self._responder.cacheable and not control & {"no-store", "bypass"} and not request.query_string:
            found = question_key(request.path, body, tenant=asked.tenant, identity=self._responder.identity)
        if found is None:
            return await self._pass_on(request, asked, "bypass", None, arrived)
        key, content_type = found
        kept = None if "no-cache" in control else await self._responder.find(key)
        if kept is None:
            return await self._pass_on(request, asked, "miss", key, arrived)
        seconds = time.perf_counter() - arrived
        headers = {
            **hit_headers(seconds),
            CACHE_HEADER: "hit",
            "Age": str(int(self._responder.cache.age_seconds(kept))),
        }
        self._count("hit", 200, asked, seconds)
        self._metrics.answer_bytes.labels("hit").inc(len(kept.body))
        return web.Response(body=kept.body, headers={**headers, "Content-Type": content_type})

    async def _pass_on(
        self, request: web.Request, asked: Asked, outcome: str, key: bytes | None, arrived: float
    ) -> web.StreamResponse:
        """As it comes; kept under ``key`` when all of it has come and it may be."""
        sent = time.perf_counter()
        async with self._upstream.stream(
            "POST", asked.path, body=asked.body, headers=asked.forwarded(outcome)
        ) as answer:
            now = time.perf_counter()
            said = returned_headers(answer)
            timing = sidecar_headers(
                outcome=outcome, total_seconds=now - arrived, waited_seconds=now - sent, upstream=said
            )
            response = web.StreamResponse(status=answer.status, headers={**said, **timing, CACHE_HEADER: outcome})
            response.content_length = answer.content_length
            self._count(outcome, answer.status, asked, now - arrived)
            await response.prepare(request)
            try:
                whole = await self._copy(answer, response, collect=key is not None)
            except (ClientError, TimeoutError):
                response.force_close()  # half an answer must not look whole
                if request.transport is not None:
                    request.transport.abort()
                return response
            await response.write_eof()
        if key is not None and whole is not None and may_be_kept(answer.status, said, whole):
            self._responder.keep(key, whole)
        return response

    async def _copy(self, answer: Any, response: web.StreamResponse, *, collect: bool) -> bytes | None:
        """The whole body, if it was to be collected and isn't too long."""
        chunks: list[bytes] = []
        length = 0
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
            length += len(chunk)
            if length > LONGEST_ANSWER_BYTES:
                collect = False
                chunks.clear()
            if collect:
                chunks.append(chunk)
        return b"".join(chunks) if collect else None

    def _count(self, outcome: str, status: int, asked: Asked, seconds: float) -> None:
        """``seconds``: to the answer's first byte."""
        self._metrics.requests.labels(outcome, str(status)).inc()
        if status == 200:
            trace = asked.headers.get(TRACE_HEADER, "")
            observe(self._metrics.request.labels(outcome), seconds, traceparent=trace)


def may_be_kept(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whole answers of success only: a stream ends with [DONE], and a server may refuse."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    refused = directives({"cache-control": headers.get("Cache-Control", "")}) & {"no-store", "private"}
    if status != 200 or refused:
        return False
    return body.endswith(DONE) if kind == EVENTS else kind == JSON and body.startswith(b"{") and body.endswith(b"}")
