"""Logs, metrics and traces of a process that stays, by its configuration and under one name."""

from __future__ import annotations

import os
from collections.abc import Callable

from aetheris.runtime import logs, metrics, tracing
from aetheris.runtime.config import Config
from aetheris.runtime.resource import resource


def monitored(config: Config, instance: str) -> Callable[[], None]:
    """Begin; return what sends the last spans and ends tracing. Errors: Refused when tracing lacks its SDK."""
    keys = config.monitoring.tracing
    who = resource(keys.service_name, instance)
    logs.configure(who, config.secrets(os.environ))
    metrics.served_by(who)
    return tracing.configure(who, keys.export_endpoint) if keys.enable else _nothing


def _nothing() -> None:
    return None
