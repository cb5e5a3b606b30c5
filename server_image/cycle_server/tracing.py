"""Spans of requests by OpenTelemetry: exported by OTLP when OTEL_EXPORTER_OTLP_ENDPOINT is set, else nothing at all.

The SDK's standard variables hold (OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, ...). Without an endpoint the library
is not even imported. Spans are made from times that were measured anyway, after the answer; they leave in batches on a
thread of the SDK's, from a bounded queue: a collector that is slow or gone costs spans and never a request.
"""

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from opentelemetry.trace import Span

TRACE_HEADER = "traceparent"  # W3C trace context; the balancer makes one where the client sent none
FORWARDED = (TRACE_HEADER, "tracestate", "X-Request-Id")  # every hop hands these on
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FLUSH_MILLISECONDS = 2_000


def trace_id(traceparent: str) -> str | None:
    """Of a well-formed and sampled trace; None else. For exemplars."""
    parts = traceparent.split("-")
    good = len(parts) == 4 and len(parts[1]) == 32 and parts[3][-1:] in "13579bdf" and parts[3] != ""
    return parts[1] if good else None


def tracing(service: str) -> "Tracing | None":
    """None, which costs nothing, when no endpoint is configured."""
    return Tracing(service) if any(os.environ.get(name) for name in _ENDPOINTS) else None


def begun(
    tracing: "Tracing | None", name: str, headers: Mapping[str, str]
) -> "AbstractContextManager[ActiveSpan | None]":
    """A request's span as a context; None in it when tracing is off."""
    return tracing.begin(name, headers) if tracing is not None else nullcontext()


class Tracing:
    """One per process."""

    def __init__(self, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("cycle_server")

    def begin(self, name: str, headers: Mapping[str, str]) -> "ActiveSpan":
        """A span from now on, below the one that ``headers`` name. Names of headers in lower case, or in any case."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {key: value for key in (TRACE_HEADER, "tracestate") if (value := headers.get(key))}
        context = TraceContextTextMapPropagator().extract(carrier)
        return ActiveSpan(self, self._tracer.start_span(name, context=context, kind=SpanKind.SERVER))

    def child(self, name: str, parent: "Span", *, start_nanoseconds: int, end_nanoseconds: int) -> None:
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(parent)
        span = self._tracer.start_span(name, context=context, start_time=start_nanoseconds)
        span.end(end_nanoseconds)

    def close(self) -> None:
        """Sends what is left, for a bounded time. Blocks."""
        self._provider.force_flush(_FLUSH_MILLISECONDS)
        self._provider.shutdown()


class ActiveSpan:
    """A request that is being answered."""

    def __init__(self, tracing: Tracing, span: "Span") -> None:
        self._tracing, self._span = tracing, span
        self._started = time.time_ns()
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """An exception ends it as an error, whatever else was left without an end just ends."""
        if not self._ended:
            self.end(status=500 if error else 200)

    @property
    def traceparent(self) -> str:
        """For the next hop: its span is below this one."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def end(
        self,
        *,
        status: int,
        terms: Mapping[str, float] | None = None,
        attributes: Mapping[str, str | int] | None = None,
    ) -> None:
        """``terms``: seconds one after the other from the span's beginning, each a span. ``status``: of HTTP."""
        from opentelemetry.trace import Status, StatusCode

        self._ended = True
        start = self._started
        for name, seconds in (terms or {}).items():
            end = start + round(seconds * 1e9)
            self._tracing.child(name, self._span, start_nanoseconds=start, end_nanoseconds=end)
            start = end
        for name, value in {**(attributes or {}), "http.response.status_code": status}.items():
            self._span.set_attribute(name, value)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
