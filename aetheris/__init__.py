"""Aetheris: a durable runtime for agent jobs whose log an auditor can check.

    import aetheris as ae

Names are loaded when first used, so that the evidence verifier, which shares
this package, needs none of the runtime's dependencies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aetheris.domain.errors import (
        AetherisError,
        Conflict,
        Corrupt,
        Denied,
        Diverged,
        Lost,
        Refused,
        Unknown,
        Unusable,
    )
    from aetheris.runtime.agents import Agent, agent
    from aetheris.runtime.context import Context, SyncContext
    from aetheris.runtime.sensitive import Sensitive
    from aetheris.runtime.system import AsyncSystem, Job, System
    from aetheris.runtime.system import System as open
    from aetheris.runtime.tools import Call, Tool, ToolFailed, tool
    from aetheris.runtime.worker import Settings, Worker

__version__ = "0.1.0"

_HOMES = {
    "aetheris.domain.errors": (
        "AetherisError",
        "Conflict",
        "Corrupt",
        "Denied",
        "Diverged",
        "Lost",
        "Refused",
        "Unknown",
        "Unusable",
    ),
    "aetheris.runtime.agents": ("Agent", "agent"),
    "aetheris.runtime.context": ("Context", "SyncContext"),
    "aetheris.runtime.sensitive": ("Sensitive",),
    "aetheris.runtime.system": ("AsyncSystem", "Job", "System"),
    "aetheris.runtime.tools": ("Call", "Tool", "ToolFailed", "tool"),
    "aetheris.runtime.worker": ("Settings", "Worker"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted([*_HOME, "open", "__version__"])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    home = "aetheris.runtime.system" if name == "open" else _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'aetheris' has no attribute {name!r}")
    return getattr(import_module(home), "System" if name == "open" else name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
