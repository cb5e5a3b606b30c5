"""The way of a request that all protocols share: read and tokenize, wait for a batch, compute, write the answer."""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from multidict import CIMultiDictProxy

from cycle_server.batching.batcher import Computed, ShedError
from cycle_server.batching.policy import Flow
from cycle_server.drain import Drain
from cycle_server.engine.stages import Classifying, ImageStages
from cycle_server.items import Items
from cycle_server.protocol import v2, v2_image, v2_text, v2_translation
from cycle_server.protocol.errors import ProtocolError
from cycle_server.protocol.timing import Stopwatch
from cycle_server.server.caller import budget_seconds, flow_of
from cycle_server.server.generator import Generator
from cycle_server.server.lifecycle import Model
from cycle_server.server.metrics import OUTCOMES, ServerMetrics, observe
from cycle_server.tracing import TRACE_HEADER, begun, tracing
from cycle_wire.headers import CACHE_HEADER, DEADLINE_HEADER, PRIORITY_HEADER, TENANT_HEADER
from cycle_wire.parts import Task
from cycle_wire.serving import ServerConfig

INLINE_BYTES = 8192  # longer bodies are tokenized on another thread, so that they don't hold up the others

Served = Model | Generator
DOES = {
    Task.TEXT_CLASSIFICATION: "classifies texts; ask /classify or /v1/embeddings",
    Task.IMAGE_CLASSIFICATION: "classifies images; ask /classify",
    Task.RECOMMENDATION: "recommends items; ask /recommend",
    Task.LANGUAGE_MODELING: "generates text; ask /v1/chat/completions, /v1/completions or /generate",
    Task.TRANSLATION: "translates texts; ask /translate",
}

CLASSIFYING = (Task.TEXT_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)
# A batch is computed in one go, and then it is answered.
AT_ONCE = (*CLASSIFYING, Task.RECOMMENDATION, Task.TRANSLATION)

Kind = TypeVar("Kind", Model, Generator)
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
    """Not ready until ``model`` is set, which does ``task``."""

    def __init__(self, config: ServerConfig, *, task: Task, metrics: ServerMetrics, drain: Drain) -> None:
        self.config = config
        self.task = task
        self.metrics = metrics
        self.drain = drain
        self.model: Served | None = None
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

    def model_metadata(self) -> Mapping[str, Any]:
        """As Open Inference Protocol has it; the number of classes is -1 until the model is loaded."""
        names = {"model_name": self.config.model_name, "model_version": self.version}
        if self.task is Task.LANGUAGE_MODELING:
            return v2_text.model_metadata(**names)
        if self.task is Task.TRANSLATION:
            return v2_translation.model_metadata(**names)
        stages = self.model.engine if isinstance(self.model, Model) else None
        classes = len(stages.labels) if isinstance(stages, Classifying) else -1
        images = self.task is Task.IMAGE_CLASSIFICATION
        tensor = v2_image.input_tensor(self.image_shape) if images else v2.TEXT_INPUT
        return v2.model_metadata(**names, classes=classes, input_tensor=tensor)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width), of a model of images; -1 each until it is loaded."""
        stages = self.model.engine if isinstance(self.model, Model) else None
        return stages.image_format.shape if isinstance(stages, ImageStages) else (-1, -1, -1)

    def loaded(self, *tasks: Task) -> Model:
        """Raises ProtocolError when it does none of ``tasks``, and ShedError before it is loaded."""
        return self._served(Model, tasks)

    def generator(self) -> Generator:
        """Raises like ``loaded``."""
        return self._served(Generator, (Task.LANGUAGE_MODELING,))

    def _served(self, kind: type[Kind], tasks: Collection[Task]) -> Kind:
        if self.task not in tasks:
            raise ProtocolError(f"the model {self.config.model_name!r} {DOES[self.task]}", status=404)
        if not isinstance(self.model, kind):
            raise ShedError("the model isn't loaded yet", retry_after_seconds=1.0)
        return self.model

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
        read: Callable[[Model], tuple[Request, Items]],
        write: Callable[[Model, Request, Computed], Content],
        tasks: Collection[Task] = AT_ONCE,
    ) -> Answered[Content]:
        """Of a model that does one of ``tasks``. ``read`` may run on another thread.

        Raises ProtocolError, or ShedError when it can't be in time.
        """
        with begun(self.tracing, "infer", call.headers) as span:
            answered, batch_size = await self._answer(call, read, write, tasks)
            if span:
                span.end(status=200, terms=answered.terms, attributes={"cycle.batch.size": batch_size})
            return answered

    async def _answer(
        self,
        call: Call,
        read: Callable[[Model], tuple[Request, Items]],
        write: Callable[[Model, Request, Computed], Content],
        tasks: Collection[Task],
    ) -> tuple[Answered[Content], int]:
        model, watch = self.loaded(*tasks), call.watch
        flow, deadline = self.terms_of(call)
        request, tokens = read(model) if call.size_bytes <= INLINE_BYTES else await asyncio.to_thread(read, model)
        watch.lap("pre")
        computed = await model.batcher.submit(tokens, deadline=deadline, flow=flow)
        watch.lap("queue", of_which={"compute": computed.compute_seconds})
        content = write(model, request, computed)
        watch.lap("post")
        self.observe(call)
        labels = model.engine.label_indices(computed.logits)
        self.metrics.count_texts(lengths=map(len, tokens), labels=labels)
        return Answered(content=content, terms=watch.terms), computed.batch_size

    def terms_of(self, call: Call) -> tuple[Flow, float]:
        """Whose it is, and until when it must be done, on time.monotonic(). Raises ProtocolError."""
        flow = flow_of(tenant=call.headers.get(TENANT_HEADER), priority=call.headers.get(PRIORITY_HEADER))
        return flow, call.arrived + self._budget_seconds(call, flow)

    def observe(self, call: Call) -> None:
        """Counts an answered request's times."""
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
