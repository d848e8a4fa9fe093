"""Traces by OpenTelemetry: spans of what runs now, under the trace that the submitter was in.

    invoke_agent AGENT            a worker's hold of a job, from claim to letting go
      step NAME                   one call of the job's code, its waits for a limit and its attempts
        execute_tool TOOL         one attempt: of a tool
        chat MODEL                ... or of a question to a model

A replay makes no spans: what stands in the record had its span when it ran.
Event and span point at each other: the event that begins a hold or an attempt
holds its `traceparent`; the span names tenant, job, step, attempt and epoch.
Arguments, results and errors' texts are in neither.

Only OpenTelemetry's API is needed. Spans are made where an SDK is set up: by
`monitoring.tracing` (`configure`), or by the program that Aetheris runs in.
Without one the submitter's traceparent is passed on to tools as it is.

Source: W3C Trace Context; OpenTelemetry semantic conventions for generative AI, 1.41.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags, Tracer

from aetheris.domain.errors import Refused

SCOPE = "aetheris"
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})\Z")
#: Set by `configure` and by tests; otherwise the program's own provider, where there is one, is used.
_chosen: list[trace.TracerProvider] = []


def checked(traceparent: str | None) -> str:
    """Return a traceparent as it is, or "" where it is none: a broken one begins a new trace, as W3C says."""
    return traceparent if traceparent and _TRACEPARENT.match(traceparent) else ""


def current() -> str:
    """Return the traceparent of the span that this code runs in, or ""."""
    return _traceparent(trace.get_current_span().get_span_context())


class Attempt:
    """One attempt of a call. `traceparent` is what its tool passes on."""

    def __init__(self, span: Span | None, traceparent: str) -> None:
        self._span, self.traceparent = span, traceparent

    def line(self) -> dict[str, str]:
        """Return what the event that begins the attempt says of it."""
        return {"traceparent": self.traceparent} if self._span is not None else {}

    def ended(self, data: Mapping[str, Any]) -> None:
        """Note what the line of its end says of a model's answer."""
        if self._span is not None and "output_tokens" in data:
            self._span.set_attribute("gen_ai.usage.input_tokens", data["input_tokens"])
            self._span.set_attribute("gen_ai.usage.output_tokens", data["output_tokens"])
            self._span.set_attribute("gen_ai.response.model", data["llm_model"])

    def failed(self, kind: str) -> None:
        """Note that it failed, and with what kind of error; never its text."""
        if self._span is not None:
            self._span.set_attribute("error.type", kind)
            self._span.set_status(StatusCode.ERROR)


class Traced:
    """The trace of one hold of a job. `end` closes its span."""

    def __init__(self, parent: str, tenant: str, job: str, epoch: int, agent: str, version: str) -> None:
        self._tracer = _tracer()
        self._span: Span | None = None
        self.traceparent = parent
        self._names = {"aetheris.tenant": tenant, "gen_ai.conversation.id": job, "gen_ai.agent.name": agent}
        if self._tracer is None:
            return
        self._span = self._tracer.start_span(
            f"invoke_agent {agent}",
            context=_context(parent),
            attributes={
                **self._names,
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.version": version,
                "aetheris.epoch": epoch,
            },
        )
        self.traceparent = _traceparent(self._span.get_span_context())

    def line(self) -> dict[str, str]:
        """Return what the event that begins the hold says of it."""
        return {"traceparent": self.traceparent} if self._span is not None else {}

    def end(self, word: str) -> None:
        """The worker lets go: how it ended."""
        if self._span is not None:
            self._span.set_attribute("aetheris.end", word)
            if word in ("failed", "lost", "corrupt"):
                self._span.set_attribute("error.type", word)
                self._span.set_status(StatusCode.ERROR)
            self._span.end()

    @contextmanager
    def step(self, step: int, name: str) -> Iterator[None]:
        """A step of the job, with all its attempts in this hold."""
        if self._tracer is None or self._span is None:
            yield
            return
        span = self._tracer.start_span(
            f"step {name}",  # without its number: names of spans are few
            context=trace.set_span_in_context(self._span, Context()),
            attributes={**self._names, "aetheris.step": step},
        )
        with _within(span):
            yield

    @contextmanager
    def attempt(self, step: int, attempt: int, waited_us: int, tool: Mapping[str, Any]) -> Iterator[Attempt]:
        """One attempt within its step; `tool` is what `span_data` says of it."""
        if self._tracer is None:
            yield Attempt(None, self.traceparent)
            return
        asks = "gen_ai.request.model" in tool
        operation = "chat" if asks else "execute_tool"
        span = self._tracer.start_span(
            f"{operation} {tool['gen_ai.request.model' if asks else 'gen_ai.tool.name']}",
            kind=SpanKind.CLIENT if asks else SpanKind.INTERNAL,
            attributes={
                **self._names,
                **tool,
                "gen_ai.operation.name": operation,
                "aetheris.step": step,
                "aetheris.attempt": attempt,
                "aetheris.waited_us": waited_us,
            },
        )
        with _within(span):
            yield Attempt(span, _traceparent(span.get_span_context()))


@contextmanager
def using(provider: trace.TracerProvider) -> Iterator[None]:
    """Make spans with this provider while inside."""
    _chosen.append(provider)
    try:
        yield
    finally:
        _chosen.remove(provider)


def configure(resource: Mapping[str, str], endpoint: str | None) -> Callable[[], None]:
    """Send spans by OTLP over HTTP to `endpoint` (else OTEL_EXPORTER_OTLP_ENDPOINT); return what flushes and stops it.

    Errors: Refused without the SDK, which the extra `tracing` brings.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise Refused(
            "monitoring.tracing.enable is set, and OpenTelemetry's SDK is not there:"
            " pip install '.[tracing]' in a clone, or the wheel with [tracing]"
        ) from None
    provider = TracerProvider(resource=Resource.create(dict(resource)), shutdown_on_exit=False)
    address = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
    _chosen.append(provider)

    def stop() -> None:
        _chosen.remove(provider)
        provider.shutdown()

    return stop


def _tracer() -> Tracer | None:
    if _chosen:
        return _chosen[-1].get_tracer(SCOPE)
    # The API's own stand-in makes nothing: it is not even asked.
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider.get_tracer(SCOPE)


@contextmanager
def _within(span: Span) -> Iterator[None]:
    # What a tool raises may be sensitive: neither its text nor its trace goes into the span.
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        yield


def _context(traceparent: str) -> Context:
    found = _TRACEPARENT.match(traceparent)
    if found is None:
        return Context()
    parent = SpanContext(
        int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(int(found[3], 16))
    )
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _traceparent(context: SpanContext) -> str:
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
