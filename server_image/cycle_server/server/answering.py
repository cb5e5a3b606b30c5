"""The way of a request that all protocols share: read and tokenize, wait for a batch, compute, write the answer."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from multidict import CIMultiDictProxy

from cycle_server.batching.batcher import Computed, ShedError
from cycle_server.batching.policy import Flow
from cycle_server.drain import Drain
from cycle_server.engine.stages import Tokens
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.timing import Stopwatch
from cycle_server.server.caller import PRIORITY_HEADER, TENANT_HEADER, budget_seconds, flow_of
from cycle_server.server.lifecycle import Model
from cycle_server.server.metrics import OUTCOMES, ServerMetrics, observe
from cycle_server.tracing import TRACE_HEADER, begun, tracing
from cycle_wire.serving import ServerConfig

DEADLINE_HEADER = "X-Cycle-Deadline-Ms"  # milliseconds that the client still waits
CACHE_HEADER = "X-Cycle-Cache"
INLINE_BYTES = 8192  # longer bodies are tokenized on another thread, so that they don't hold up the others

Request = TypeVar("Request")
Content = TypeVar("Content")


@dataclass(frozen=True)
class Call:
    """What came beside a request's body. ``arrived`` on time.monotonic(); ``headers`` (gRPC: metadata) of any case."""

    arrived: float
    size_bytes: int
    headers: CIMultiDictProxy[str]
    remaining_seconds: float = math.inf  # of the protocol's own deadline
    watch: Stopwatch = field(default_factory=Stopwatch)  # runs since the request arrived


@dataclass(frozen=True)
class Answered(Generic[Content]):
    """``terms``: seconds of pre, queue, compute and post, without gaps."""

    content: Content
    terms: dict[str, float]


class Answerer:
    """Not ready until ``model`` is set."""

    def __init__(self, config: ServerConfig, *, metrics: ServerMetrics, drain: Drain) -> None:
        self.config = config
        self.metrics = metrics
        self.drain = drain
        self.model: Model | None = None
        self.tracing = tracing("cycle-server")
        # Changes with everything that changes answers.
        self.version = f"{config.model_digest.removeprefix('sha256:')[:12]}-{config.variant}"

    @property
    def ready(self) -> bool:
        """A pod whose compute thread hangs gets no more requests; its liveness then ends it."""
        return self.model is not None and not self.drain.draining and self.live

    @property
    def live(self) -> bool:
        return self.model is None or not self.model.batcher.is_stuck()

    @property
    def classes(self) -> int:
        """-1 until the model is loaded."""
        return len(self.model.engine.manifest.labels) if self.model else -1

    def check_model(self, name: str, version: str | None) -> None:
        """Raises ProtocolError when it isn't the model that is served here; no version is any."""
        if name != self.config.model_name:
            raise ProtocolError(f"unknown model {name!r}, this is {self.config.model_name!r}", status=404)
        if version is not None and version != self.version:
            raise ProtocolError(f"unknown version {version!r}, this is {self.version!r}", status=404)

    async def answer(
        self,
        call: Call,
        *,
        read: Callable[[Model], tuple[Request, Tokens]],
        write: Callable[[Model, Request, Computed], Content],
    ) -> Answered[Content]:
        """``read`` may run on another thread. Raises ProtocolError, or ShedError when it can't be in time."""
        with begun(self.tracing, "infer", call.headers) as span:
            answered, batch_size = await self._answer(call, read, write)
            if span:
                span.end(status=200, terms=answered.terms, attributes={"cycle.batch.size": batch_size})
            return answered

    async def _answer(
        self,
        call: Call,
        read: Callable[[Model], tuple[Request, Tokens]],
        write: Callable[[Model, Request, Computed], Content],
    ) -> tuple[Answered[Content], int]:
        model, watch = self.model, call.watch
        if model is None:
            raise ShedError("the model isn't loaded yet", retry_after_seconds=1.0)
        flow = flow_of(tenant=call.headers.get(TENANT_HEADER), priority=call.headers.get(PRIORITY_HEADER))
        deadline = call.arrived + self._budget_seconds(call, flow)
        request, tokens = read(model) if call.size_bytes <= INLINE_BYTES else await asyncio.to_thread(read, model)
        watch.lap("pre")
        computed = await model.batcher.submit(tokens, deadline=deadline, flow=flow)
        watch.lap("queue", of_which={"compute": computed.compute_seconds})
        content = write(model, request, computed)
        watch.lap("post")
        self._observe(call)
        likeliest = computed.logits[:, : self.classes].argmax(axis=1).tolist() if self.classes > 0 else []
        self.metrics.count_texts(lengths=map(len, tokens), labels=likeliest)
        return Answered(content=content, terms=watch.terms), computed.batch_size

    def _observe(self, call: Call) -> None:
        outcome = call.headers.get(CACHE_HEADER, "")
        label = outcome if outcome in OUTCOMES else "direct"
        trace = call.headers.get(TRACE_HEADER, "")
        for term, seconds in {**call.watch.terms, "request": call.watch.elapsed_seconds}.items():
            observe(self.metrics.terms[term].labels(label), seconds, traceparent=trace)

    def _budget_seconds(self, call: Call, flow: Flow) -> float:
        """The server's budget, or what the client still waits if that is less."""
        budget = budget_seconds(flow, budget_milliseconds=self.config.budget_milliseconds)
        budget = min(budget, call.remaining_seconds)
        header = call.headers.get(DEADLINE_HEADER)
        if header is None:
            return budget
        try:
            milliseconds = float(header)
        except ValueError:
            milliseconds = math.nan
        if not 0 <= milliseconds < math.inf:
            raise ProtocolError("must be a number of milliseconds, 0 or more", field=DEADLINE_HEADER)
        return min(budget, milliseconds / 1000)


def retry_after_seconds(error: ShedError) -> int:
    """As headers have it: whole seconds, 1 or more."""
    return max(1, math.ceil(error.retry_after_seconds))
