"""OpenTelemetry (extra `otel`): a span a call, an event an attempt, metrics. Needs opentelemetry-api alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from d3async.d3.call import API_PATH
from d3async.engine.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from d3async.config.settings import Settings
    from d3async.engine.observers import AttemptSeen, CallSeen, OutcomeSeen

_NAME = "d3async"
_NANO = 1_000_000_000


class Telemetry(Observer):
    """Give it to the client: `D3Client(settings, observers=[Telemetry(settings)])`.

    Names follow OpenTelemetry's semantic conventions for HTTP clients
    (https://opentelemetry.io/docs/specs/semconv/http/), our own begin with `d3.`. Without providers the global ones
    are used. No text of a row, no user and no secret is reported.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._duration = meter.create_histogram("http.client.request.duration", "s", "One request, from its turn on.")
        self._outcomes = meter.create_counter("d3.outcomes", "{outcome}", "Rows and calls by what became of them.")
        self._items = meter.create_counter("d3.items", "{item}", "Links by what became of them.")
        self._rate = meter.create_gauge("d3.limiter.rate", "{request}/s", "The rate the limiter allows.")
        self._in_flight = meter.create_gauge("d3.limiter.in_flight", "{request}", "Requests under way.")
        base = urlsplit(settings.base_url)
        self._path = base.path.rstrip("/") + API_PATH
        self._server: dict[str, str | int] = {"server.address": base.hostname or ""}
        port = base.port or {"https": 443, "http": 80}.get(base.scheme)
        if port:
            self._server["server.port"] = port

    @contextmanager
    def call(self, seen: CallSeen) -> Iterator[None]:
        """See `Observer.call`: the span."""
        attributes = {**self._attributes(seen.command), "url.path": self._path + seen.command}
        if seen.row is not None:
            attributes["d3.row"] = seen.row
        if seen.items:
            attributes["d3.items"] = seen.items
        with self._tracer.start_as_current_span(
            f"POST {seen.command}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield

    def attempt(self, seen: AttemptSeen) -> None:
        """See `Observer.attempt`: the event, the duration, the limiter's numbers."""
        attributes = self._attributes(seen.command) | _answer(seen.status, seen.code)
        self._duration.record(seen.elapsed, attributes)
        self._rate.set(seen.limiter.rate, self._server)
        self._in_flight.set(seen.limiter.in_flight, self._server)
        told = {"d3.attempt": seen.attempt, "d3.elapsed": seen.elapsed, **_answer(seen.status, seen.code)}
        if seen.retry_after is not None:
            told["d3.retry_after"] = seen.retry_after
        trace.get_current_span().add_event("attempt", told, timestamp=int((seen.at + seen.elapsed) * _NANO))

    def answered(self, seen: CallSeen, *, status: int | None, code: str, attempts: int) -> None:  # noqa: ARG002 - the form of `Observer`
        """See `Observer.answered`: the span's status."""
        span = trace.get_current_span()
        span.set_attributes(_answer(status, code))
        if attempts > 1:
            span.set_attribute("http.request.resend_count", attempts - 1)
        if code:
            span.set_status(Status(StatusCode.ERROR, code))

    def outcome(self, seen: OutcomeSeen) -> None:
        """See `Observer.outcome`: the counters."""
        self._outcomes.add(1, {"d3.command": seen.command, "d3.outcome": seen.outcome, "d3.code": seen.code})
        for outcome, number in zip(("ok", "failed", "unknown"), seen.items, strict=True):
            if number:
                self._items.add(number, {"d3.command": seen.command, "d3.outcome": outcome})

    def _attributes(self, command: str) -> dict[str, str | int]:
        return {"http.request.method": "POST", "d3.command": command, **self._server}


def _answer(status: int | None, code: str) -> dict[str, str | int | float]:
    told: dict[str, str | int | float] = {}
    if status is not None:
        told["http.response.status_code"] = status
    if code:
        told["error.type"] = code
    return told
