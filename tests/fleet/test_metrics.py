"""What a worker tells Prometheus, and to whom."""

import socket
import urllib.request

import pytest

from d3async.errors import SettingsError
from d3async.fleet.metrics import Metrics, served


def _metrics() -> Metrics:
    return Metrics(list, host="here")


def test_metrics_are_served_where_they_were_asked_for_and_no_longer() -> None:
    metrics = _metrics()
    metrics.row("acme", "ok")
    with served(metrics, "127.0.0.1", 0) as port:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()

    assert 'd3async_rows_total{outcome="ok",tenant="acme"} 1.0' in text
    assert "d3async_database_up 1.0" in text
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port or 0)) != 0


def test_nobody_listens_unless_asked_to() -> None:
    with served(_metrics(), "127.0.0.1", None) as port:
        assert port is None


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match="--metrics-port"), served(_metrics(), "127.0.0.1", port):
            pass
