"""OpenTelemetry: a span a call, an event an attempt, metrics; nothing of what a row or an answer says."""

import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from d3async import CreateTask, D3Client, Settings
from d3async.errors import UnknownOutcomeError
from d3async.otel import Telemetry
from d3async.sandbox import serve

PRIVATE = "quarterly-secret-name"
KEY = "key-that-nobody-sees"


def task(number: int) -> CreateTask:
    fields: dict[str, Any] = {"name": PRIVATE, "description": PRIVATE, "assignee": "admin user"}
    return CreateTask(incident=f"{PRIVATE}-{number}", due="2026-12-01 17:00:00", **fields)


@pytest.mark.asyncio
async def test_a_span_a_call_an_event_an_attempt_with_the_names_of_the_conventions() -> None:
    spans, numbers = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    async with serve(rate=0, keys={"*": KEY}, faults=["error-429", None, "drop-after"]) as url:
        config = Settings.from_env(url.env, rate=2000, max_attempts=2)
        telemetry = Telemetry(config, tracer_provider=tracing, meter_provider=MeterProvider([numbers]))
        async with D3Client(config, observers=[telemetry]) as d3:
            with tracing.get_tracer("app").start_as_current_span("request"):
                await d3.execute(task(1))
                with pytest.raises(UnknownOutcomeError):
                    await d3.execute(task(2))
            async for _ in d3.run([task(3)]):
                pass
        port = int(str(url).split(":")[2].split("/")[0])

    first, second, parent, third = spans.get_finished_spans()
    assert first.name == "POST CreateTask"
    assert dict(first.attributes or {}) == {
        "http.request.method": "POST", "d3.command": "CreateTask", "server.address": "127.0.0.1",
        "server.port": port, "url.path": "/ce_site/VSOC/api/Command/CreateTask", "http.response.status_code": 200,
        "http.request.resend_count": 1,
    }  # fmt: skip
    assert [dict(e.attributes or {})["d3.attempt"] for e in first.events] == [1, 2]
    assert dict(first.events[0].attributes or {})["error.type"] == "throttled"
    assert first.parent is not None
    assert first.parent.span_id == parent.context.span_id
    assert (second.status.status_code, second.status.description) == (StatusCode.ERROR, "connection_lost")
    assert (third.attributes or {})["d3.row"] == 1
    told = "".join(span.to_json() for span in (first, second, third)) + numbers.get_metrics_data().to_json()  # type: ignore[union-attr]
    assert PRIVATE not in told
    assert KEY not in told
    for name in ("http.client.request.duration", "d3.outcomes", "d3.limiter.rate"):
        assert name in told


def test_importing_the_client_does_not_import_opentelemetry() -> None:
    code = "import sys, d3async.client; print(any(name.startswith('opentelemetry') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
