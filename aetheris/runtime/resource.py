"""Who speaks: the same name, version and instance in metrics, traces and logs, to lay them side by side."""

from __future__ import annotations

from aetheris import __version__


def resource(service: str, instance: str) -> dict[str, str]:
    """Return OpenTelemetry's resource attributes of this process."""
    return {"service.name": service, "service.version": __version__, "service.instance.id": instance}
