# SPDX-License-Identifier: Apache-2.0
"""Traces for OpenTelemetry, of what operators cause: requests to the API, reloads, generations that
a CS puts in force.  Never of a flow.

It is off, and costs a look at a variable, unless OTEL_EXPORTER_OTLP_ENDPOINT says where traces go;
the other variables of OpenTelemetry's SDK hold as well.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.trace import Span as _Span
    from opentelemetry.trace import Tracer

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
OFF: Final = "OTEL_SDK_DISABLED"
# of one attempt; what cannot be sent is lost, and its process ends without waiting for longer
_EXPORT_S: Final = 5

Value: TypeAlias = str | int

_log = logging.getLogger("splitplane")
_tracer: Tracer | None = None


class Span:
    """Something that takes time; of no effect while nothing is traced."""

    def __init__(self, span: _Span | None) -> None:
        self._span = span

    def set(self, name: str, value: Value) -> None:
        """Say more about it."""
        if self._span is not None:
            self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        """It is known only now what it is."""
        if self._span is not None:
            self._span.update_name(name)

    def failed(self, why: str) -> None:
        """It did not do what it should."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, why))


@contextmanager
def span(name: str, *, caller: Mapping[str, str] | None = None) -> Iterator[Span]:
    """What is done in the block; an exception is recorded, and raised on.

    *caller*: headers of the request that causes it, which may be part of the caller's own trace.
    """
    if _tracer is None:
        yield _NOTHING
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    with _tracer.start_as_current_span(
        name,
        context=None if caller is None else extract(caller),
        kind=SpanKind.INTERNAL if caller is None else SpanKind.SERVER,
    ) as begun:
        yield Span(begun)


@contextmanager
def traced(
    component: str, instance: str, release: str, environment: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """Send the spans of this block, if the environment says where to.

    *component*: "api", "cs"; *instance*: "cs-1".
    """
    global _tracer
    wanted = any(environment.get(name) for name in ENDPOINTS)
    if not wanted or environment.get(OFF, "").lower() == "true":
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        _log.warning(
            "%s is set, and %s is not installed: nothing is traced; run"
            " pip install 'splitplane[tracing]'",
            next(name for name in ENDPOINTS if environment.get(name)),
            error.name,
        )
        yield
        return
    about = {"service.instance.id": instance, "service.version": release}
    if not environment.get("OTEL_SERVICE_NAME"):
        about["service.name"] = f"splitplane-{component}"
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_EXPORT_S)))
    _tracer = provider.get_tracer("splitplane", release)
    _log.info("traces are sent by OpenTelemetry's protocol")
    try:
        yield
    finally:
        _tracer = None
        provider.shutdown()  # sends what is left


_NOTHING: Final = Span(None)
