"""What a request to infer is answered with: from memory, from the shared cache, by another's miss, or by the server.

Only whole 200 answers are kept, and only when the variant's answers don't depend on batch neighbours (``cacheable``).
What can't be read as a request, or says ``Cache-Control: no-store`` or ``X-Cycle-Cache: bypass``, goes to the server as
it is. ``Cache-Control: no-cache`` asks the server and keeps its answer.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import ClientError
from pydantic_core import to_json

from cycle_server.protocol import v2, v2_kinds
from cycle_server.protocol.timing import sidecar_headers
from cycle_server.server.metrics import observe
from cycle_server.sidecar.cache import AnswerCache, Kept, Known, KnownRequests
from cycle_server.sidecar.flight import Flights
from cycle_server.sidecar.key import Identity, cache_key, raw_digest, takes_an_id, with_id, without_id
from cycle_server.sidecar.metrics import OUTCOMES, SharedMetrics, SidecarMetrics
from cycle_server.sidecar.shared import SharedCache
from cycle_server.sidecar.upstream import FORWARDED_HEADERS, Answer, AnswerTooLongError, Upstream
from cycle_server.tracing import TRACE_HEADER, Tracing, begun
from cycle_wire.headers import CACHE_HEADER, TENANT_HEADER
from cycle_wire.serving import SidecarConfig

_CACHE, _TENANT = CACHE_HEADER.lower(), TENANT_HEADER.lower()
_TENSOR = v2.TENSOR_HEADER.lower()
JSON_HEADERS = {"Content-Type": "application/json"}
UNREACHABLE = (ClientError, TimeoutError)
# Of those who waited for a failed request one asks again and the others wait for that one, so many times at most:
# a failure may be that requester's own (its deadline was short), and a crowd must not fall on a server that fails.
ROUNDS = 3
KNOWN_SHARE = 8  # one part in so many of the cache's size goes to the digests of requests


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to infer. ``headers`` finds names in any case, or has them in lower case.

    ``digest``: of what came, where that was no JSON; ``body`` is then what was made of it.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    digest: bytes = b""
    traceparent: str = ""  # of the sidecar's own span, where there is one

    @property
    def tenant(self) -> str:
        return self.headers.get(_TENANT, "")

    def as_it_came(self) -> bytes:
        """The digest by which its repeats are known."""
        return self.digest or raw_digest(path=self.path, tenant=self.tenant, body=self.body)

    def forwarded(self, outcome: str) -> dict[str, str]:
        found = {name: self.headers.get(name.lower()) for name in FORWARDED_HEADERS}
        known = {name: value for name, value in found.items() if value is not None}
        own = {TRACE_HEADER: self.traceparent} if self.traceparent else {}
        return {**known, **own, CACHE_HEADER: outcome}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """``upstream_seconds``: how long the sidecar waited for the server."""

    name: str
    answer: Answer
    upstream_seconds: float = 0.0
    age_seconds: float | None = None


class Responder:
    """``tracing`` None costs nothing; else each request is a span."""

    def __init__(
        self, config: SidecarConfig, *, upstream: Upstream, metrics: SidecarMetrics, tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing
        self._cacheable = config.cacheable and config.size_bytes > 0
        self._identity = Identity(model_digest=config.model_digest, variant=config.variant)
        known_bytes = config.size_bytes // KNOWN_SHARE
        self.cache = AnswerCache(
            policy=config.policy, size_bytes=config.size_bytes - known_bytes, ttl_seconds=config.ttl_seconds
        )
        self._known = KnownRequests(size_bytes=known_bytes)
        self._flights: Flights[_Outcome] = Flights()
        self._upstream = upstream
        self._metrics = metrics
        # Looking labels up costs more than counting.
        self._request_seconds = {name: metrics.request.labels(name) for name in OUTCOMES}
        self._cache_seconds = {name: metrics.cache.labels(name) for name in OUTCOMES}
        self._answer_bytes = {name: metrics.answer_bytes.labels(name) for name in OUTCOMES}
        self._hits = metrics.requests.labels("hit", "200")
        self._shared: SharedCache | None = None
        if config.shared is not None and self._cacheable:
            self._shared = SharedCache(config.shared, metrics=SharedMetrics(metrics.registry))

    @property
    def cacheable(self) -> bool:
        """Whether this variant's answers may be kept at all."""
        return self._cacheable

    @property
    def identity(self) -> Identity:
        return self._identity

    async def find(self, key: bytes) -> Kept | None:
        """In memory, else in the shared cache."""
        kept = self.cache.get(key)
        if kept is None and self._shared is not None and (found := await self._shared.get(key)) is not None:
            return self.cache.put(key, found.body, age_seconds=found.age_seconds)
        return kept

    def keep(self, key: bytes, body: bytes) -> None:
        self.cache.put(key, body)
        if self._shared is not None:
            self._shared.put(key, body)

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()

    def at_once(self, asked: Asked) -> Reply | None:
        """The answer to bytes that were read before and whose answer is in memory; None for all else."""
        arrived = time.perf_counter()
        headers = asked.headers
        if self._tracing is not None:  # a span is more work than is done here
            return None
        if not self._cacheable or "cache-control" in headers or _CACHE in headers:
            return None
        if _TENSOR in headers:
            return None
        known = self._known.get(asked.as_it_came())
        kept = self.cache.get(known.key) if known is not None else None
        if known is None or kept is None:
            return None
        return self._said(asked, self._hit(kept, known.request_id), arrived=arrived)

    async def reply(self, asked: Asked) -> Reply:
        """A server that can't be reached is a 503."""
        arrived = time.perf_counter()
        with begun(self._tracing, "cache", asked.headers) as span:
            traced = replace(asked, traceparent=span.traceparent) if span else asked
            outcome = await self._outcome(traced)
            reply = self._said(asked, outcome, arrived=arrived)
            if span:
                span.end(status=reply.status, attributes={"cycle.outcome": outcome.name})
            return reply

    def _said(self, asked: Asked, outcome: _Outcome, *, arrived: float) -> Reply:
        """Counts it, and says in its headers where it came from and how long that took."""
        name, answer = outcome.name, outcome.answer
        total = time.perf_counter() - arrived
        own = max(total - outcome.upstream_seconds, 0.0)
        self._answer_bytes[name].inc(len(answer.body))
        if name == "hit":
            self._hits.inc()
        else:
            self._metrics.requests.labels(name, str(answer.status)).inc()
        if answer.status == 200:
            observe(self._request_seconds[name], total, traceparent=asked.headers.get(TRACE_HEADER, ""))
            self._cache_seconds[name].observe(own)
        timing = sidecar_headers(
            outcome=name, total_seconds=total, waited_seconds=outcome.upstream_seconds, upstream=answer.headers
        )
        headers = {
            **answer.headers,
            **timing,
            CACHE_HEADER: name,
        }
        if outcome.age_seconds is not None:
            headers["Age"] = str(int(outcome.age_seconds))
        return Reply(answer.status, answer.body, headers)

    async def _outcome(self, asked: Asked) -> _Outcome:
        control = directives(asked.headers)
        request = self._readable(asked) if self._cacheable and not control & {"no-store", "bypass"} else None
        if request is None:
            return await self._ask("bypass", asked, asked.body)
        anew = without_id(request)
        if len(anew) > v2.MAXIMUM_BODY_BYTES:  # a request near the limit may be too long then (1e5 is 100000.0)
            return await self._ask("bypass", asked, asked.body)
        try:
            key = cache_key(request, path=asked.path, tenant=asked.tenant, identity=self._identity)
        except ValueError:
            return await self._ask("bypass", asked, asked.body)
        if "no-cache" in control:
            return await self._miss(asked, request, anew, key, fresh=True)
        self._known.put(asked.as_it_came(), Known(key=key, request_id=request.id))
        kept = self.cache.get(key)
        if kept is not None:
            return self._hit(kept, request.id)
        return await self._miss(asked, request, anew, key, fresh=False)

    @staticmethod
    def _readable(asked: Asked) -> v2.InferRequest | None:
        """None for what isn't a request: the server says what is wrong with it."""
        if _TENSOR in asked.headers:
            return None
        try:
            request = v2_kinds.parse_infer(asked.body)
        except v2.ProtocolError:
            return None
        # A language model draws tokens then: another answer each time.
        return None if (request.parameters.model_extra or {}).get("temperature") else request

    def _hit(self, kept: Kept, request_id: str | None) -> _Outcome:
        answer = Answer(status=200, body=with_id(kept.body, request_id), headers=JSON_HEADERS)
        return _Outcome("hit", answer, age_seconds=self.cache.age_seconds(kept))

    async def _miss(self, asked: Asked, request: v2.InferRequest, anew: bytes, key: bytes, *, fresh: bool) -> _Outcome:
        """``anew``: the request without its id. ``fresh``: what was made before will not do, nor will a flight that may
        find that.
        """
        started = time.perf_counter()
        flight = key + b"fresh" if fresh else key
        for _ in range(ROUNDS):
            outcome, shared = await self._flights.join(flight, lambda: self._find(asked, anew, key, fresh=fresh))
            if not shared or outcome.answer.status == 200:
                break
        answer = outcome.answer
        if answer.status == 200:
            answer = replace(answer, body=with_id(answer.body, request.id))
        if not shared:
            return replace(outcome, answer=answer)
        return _Outcome("coalesced", answer, time.perf_counter() - started)

    async def _find(self, asked: Asked, anew: bytes, key: bytes, *, fresh: bool) -> _Outcome:
        """From the shared cache, else from the server; its answer is kept when it may be."""
        if self._shared is not None and not fresh:
            found = await self._shared.get(key)
            if found is not None and takes_an_id(found.body):
                return self._hit(self.cache.put(key, found.body, age_seconds=found.age_seconds), None)
        outcome = await self._ask("miss", asked, anew)
        if _may_be_kept(outcome.answer):
            self.cache.put(key, outcome.answer.body)
            if self._shared is not None:
                self._shared.put(key, outcome.answer.body)
        return outcome

    async def _ask(self, name: str, asked: Asked, body: bytes) -> _Outcome:
        started = time.perf_counter()
        try:
            answer = await self._upstream.send("POST", asked.path, body=body, headers=asked.forwarded(name))
        except UNREACHABLE as error:
            answer = _error_answer(f"the server can't be reached: {error}", status=503, headers={"Retry-After": "1"})
        except AnswerTooLongError as error:
            answer = _error_answer(str(error), status=502)
        return _Outcome(name, answer, time.perf_counter() - started)


def directives(headers: Mapping[str, str]) -> set[str]:
    """Of Cache-Control and X-Cycle-Cache, in lower case."""
    said = f"{headers.get('cache-control', '')},{headers.get(_CACHE, '')}"
    return {part.strip().lower() for part in said.split(",")}


def _may_be_kept(answer: Answer) -> bool:
    """Only a whole JSON object that is the answer of success, and that its server lets be kept."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    is_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    refused = directives({"cache-control": headers.get("cache-control", "")}) & {"no-store", "private"}
    return answer.status == 200 and is_json and not refused and takes_an_id(answer.body)


def _error_answer(message: str, *, status: int, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status=status, body=to_json({"error": message}), headers={**JSON_HEADERS, **(headers or {})})
