"""Metrics as Prometheus reads them, served on a port of the worker's own.

Where PROMETHEUS_MULTIPROC_DIR is set before the start, several processes count
into one folder and any of them serves the sum.
"""

from __future__ import annotations

import os
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, multiprocess

from aetheris.domain.errors import Unusable
from aetheris.runtime import metrics


def registry() -> CollectorRegistry:
    """Return what to serve: this process's metrics, or all processes' of the shared folder."""
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return metrics.REGISTRY
    shared = CollectorRegistry()
    multiprocess.MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared


def text() -> bytes:
    """Return the metrics in Prometheus' text format."""
    return prometheus.generate_latest(registry())


def api_text() -> bytes:
    """Return the API's own figures alone, in Prometheus' text format: what names no tenant."""
    own = {family.name for metric in metrics.API_OWN for family in metric.describe()}

    class Own:
        def collect(self) -> Any:
            return (family for family in registry().collect() if family.name in own)

    return prometheus.generate_latest(Own())


def serve(port: int, host: str = "127.0.0.1") -> tuple[WSGIServer, Thread]:
    """Serve `/metrics` on `port` (0: any free one) until the server's `shutdown`. Errors: Unusable."""
    try:
        return prometheus.start_http_server(port, host, registry())
    except OSError as error:
        raise Unusable(
            f"metrics: can't listen on {host}:{port} ({(error.strerror or str(error)).lower()});"
            " give another by --metrics-port or monitoring.prometheus.port,"
            " or set monitoring.prometheus.enable to false"
        ) from None
