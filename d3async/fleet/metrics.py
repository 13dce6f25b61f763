"""What a worker tells Prometheus: rows, requests, rates, chunks, by tenant. Never the text of a row, never a secret."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from d3async import __version__
from d3async.engine.observers import status_and_code
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

    from d3async.engine.delivery import Attempt
    from d3async.fleet.run_chunk import Tenant


class Metrics:
    """Counts of one worker, in a registry of its own. *tenants* tells whom it speaks to."""

    def __init__(self, tenants: Callable[[], Iterable[Tenant]], *, host: str) -> None:
        self.registry = CollectorRegistry()
        self._rows = Counter("d3async_rows", "Rows by outcome", ["tenant", "outcome"], registry=self.registry)
        self._requests = Counter(
            "d3async_requests", "Requests that left, by what came of them", ["tenant", "code"], registry=self.registry
        )
        self._chunks = Counter("d3async_chunks", "Chunks by how they ended", ["tenant", "end"], registry=self.registry)
        self.running = Gauge("d3async_chunks_running", "Chunks being worked on", registry=self.registry)
        self.database = Gauge("d3async_database_up", "Whether the database answers", registry=self.registry)
        self.database.set(1)
        info = Info("d3async_worker", "This worker", registry=self.registry)
        info.info({"version": __version__, "host": host})
        self.registry.register(_Limiters(tenants))

    def attempt(self, tenant: str, attempt: Attempt) -> None:
        """A request left."""
        status, code = status_and_code(attempt.answer)
        self._requests.labels(tenant, code or str(status or "")).inc()

    def row(self, tenant: str, outcome: str) -> None:
        """A row has its outcome."""
        self._rows.labels(tenant, outcome).inc()

    def chunk(self, tenant: str, end: str) -> None:
        """A chunk was let go of."""
        self._chunks.labels(tenant, end).inc()


class _Limiters(Collector):
    """The limiters' own numbers, read at each request for metrics."""

    def __init__(self, tenants: Callable[[], Iterable[Tenant]]) -> None:
        self._tenants = tenants

    def collect(self) -> Iterator[Metric]:
        gauges = {
            name: GaugeMetricFamily(f"d3async_limiter_{name}", text, labels=["tenant"])
            for name, text in (("rate", "Requests a second"), ("in_flight", "Requests in flight"),
                               ("waiting", "Requests waiting for their turn"))
        }  # fmt: skip
        counters = {
            name: CounterMetricFamily(f"d3async_limiter_{name}", text, labels=["tenant"])
            for name, text in (("throttled", "Answers 429"), ("paused_seconds", "Seconds the gate was closed"))
        }
        for tenant in list(self._tenants()):
            numbers = tenant.connection.limiter.numbers
            gauges["rate"].add_metric([tenant.name], numbers.rate)
            gauges["in_flight"].add_metric([tenant.name], numbers.in_flight)
            gauges["waiting"].add_metric([tenant.name], numbers.waiting)
            counters["throttled"].add_metric([tenant.name], numbers.throttled)
            counters["paused_seconds"].add_metric([tenant.name], numbers.paused_s)
        yield from (*gauges.values(), *counters.values())


@contextmanager
def served(metrics: Metrics, host: str, port: int | None) -> Iterator[int | None]:
    """Serve *metrics* at http://host:port/metrics for the length of the block, 0 taking a free port; the port."""
    if port is None:
        yield None
        return
    try:
        server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"--metrics-port: {host}:{port} cannot be listened on ({reason})", code="option") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
