"""Panels: ipywidgets over the charts. Each says as values what it shows."""

from aetheris.workbench.panels.evidence import EvidencePanel
from aetheris.workbench.panels.limits import LimitPanel
from aetheris.workbench.panels.trace import TracePanel

__all__ = ["EvidencePanel", "LimitPanel", "TracePanel"]
