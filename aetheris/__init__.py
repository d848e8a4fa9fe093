"""Aetheris: a durable runtime for agent jobs whose log an auditor can check.

    import aetheris as ae

Names are loaded when first used, so that the evidence verifier, which shares
this package, needs none of the runtime's dependencies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aetheris.domain.errors import AetherisError as AetherisError
    from aetheris.domain.errors import Conflict as Conflict
    from aetheris.domain.errors import Corrupt as Corrupt
    from aetheris.domain.errors import Denied as Denied
    from aetheris.domain.errors import Diverged as Diverged
    from aetheris.domain.errors import Lost as Lost
    from aetheris.domain.errors import Refused as Refused
    from aetheris.domain.errors import Unknown as Unknown
    from aetheris.domain.errors import Unusable as Unusable
    from aetheris.runtime.agents import Agent as Agent
    from aetheris.runtime.agents import agent as agent
    from aetheris.runtime.answers import Answer as Answer
    from aetheris.runtime.answers import Approval as Approval
    from aetheris.runtime.answers import Cancelled as Cancelled
    from aetheris.runtime.answers import ChildFailed as ChildFailed
    from aetheris.runtime.answers import Done as Done
    from aetheris.runtime.answers import Expired as Expired
    from aetheris.runtime.answers import NotDone as NotDone
    from aetheris.runtime.answers import StillUnknown as StillUnknown
    from aetheris.runtime.answers import Uncertain as Uncertain
    from aetheris.runtime.context import Context as Context
    from aetheris.runtime.context import SyncContext as SyncContext
    from aetheris.runtime.facade import Job as Job
    from aetheris.runtime.facade import System as System
    from aetheris.runtime.facade import System as open  # noqa: F401
    from aetheris.runtime.graphs.agent import graph as graph
    from aetheris.runtime.held import Settings as Settings
    from aetheris.runtime.llm.replies import AskedCall as AskedCall
    from aetheris.runtime.llm.replies import Reply as Reply
    from aetheris.runtime.sensitive import Sensitive as Sensitive
    from aetheris.runtime.system import AsyncSystem as AsyncSystem
    from aetheris.runtime.tools import Call as Call
    from aetheris.runtime.tools import Tool as Tool
    from aetheris.runtime.tools import ToolFailed as ToolFailed
    from aetheris.runtime.tools import tool as tool
    from aetheris.runtime.worker import Worker as Worker

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
    "aetheris.runtime.answers": (
        "Answer",
        "Approval",
        "Cancelled",
        "ChildFailed",
        "Done",
        "Expired",
        "NotDone",
        "StillUnknown",
        "Uncertain",
    ),
    "aetheris.runtime.context": ("Context", "SyncContext"),
    "aetheris.runtime.graphs.agent": ("graph",),
    "aetheris.runtime.llm.replies": ("AskedCall", "Reply"),
    "aetheris.runtime.sensitive": ("Sensitive",),
    "aetheris.runtime.facade": ("Job", "System"),
    "aetheris.runtime.system": ("AsyncSystem",),
    "aetheris.runtime.tools": ("Call", "Tool", "ToolFailed", "tool"),
    "aetheris.runtime.held": ("Settings",),
    "aetheris.runtime.worker": ("Worker",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted([*_HOME, "open", "__version__"])


def __getattr__(name: str) -> Any:
    home = "aetheris.runtime.facade" if name == "open" else _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'aetheris' has no attribute {name!r}")
    return getattr(import_module(home), "System" if name == "open" else name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
