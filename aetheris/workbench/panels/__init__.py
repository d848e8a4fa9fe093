"""Panels: ipywidgets over the charts. Each says as values what it shows."""

from aetheris.workbench.panels.trace import TracePanel

__all__ = ["TracePanel"]
