"""`module:name` on the command line: agents and tools as Python finds them."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from aetheris.domain.errors import AetherisError, Refused
from aetheris.runtime.agents import Agent
from aetheris.runtime.graphs.agent import NAME, SUFFIXES
from aetheris.runtime.tools import Tool


def apart(context: click.Context, parameter: click.Parameter, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Split each at white space: a compose file gives a variable as one word. What is empty stays, to be refused."""
    return tuple(word for target in targets for word in target.split() or [target])


def agents(targets: tuple[str, ...]) -> list[Agent]:
    """Return the agents that `module:agent` names, or all of a `module`. Errors: Refused, saying which there are."""
    found: dict[str, Agent] = {}
    for target in targets:
        module_name, _, name = target.partition(":")
        module = _load(module_name, target)
        meant = [a for a in vars(module).values() if isinstance(a, Agent)]
        there = {a.name: a for a in meant}
        if name:
            agent = getattr(module, name, there.get(name))
            if not isinstance(agent, Agent):
                raise Refused(f"{module_name} has no agent {name!r}; it has {', '.join(there) or 'none'}")
            meant = [agent]
        elif not there:
            raise Refused(f"{module_name} declares no agent (a function with @aetheris.agent)")
        for agent in meant:
            # Either would take up the other's jobs, and which of them does would be chance.
            if found.setdefault(agent.name, agent) is not agent:
                way = "run graphs with --tools MODULE" if agent.name == NAME else "give one of them name=..."
                raise Refused(f"{target}: a second agent of the name {agent.name}; {way}")
    return list(found.values())


def tools(modules: Sequence[str]) -> list[Tool[Any, Any]]:
    """Return the tools that these modules declare or import. Errors: Refused when one has none."""
    found: dict[str, Tool[Any, Any]] = {}
    for name in modules:
        there = [t for t in vars(_load(name, name)).values() if isinstance(t, Tool)]
        if not there:
            raise Refused(f"{name} declares no tool (a function with @aetheris.tool)")
        for tool in there:
            if found.setdefault(tool.name, tool) is not tool:
                raise Refused(f"{name}: a second tool of the name {tool.name}; give one of them name=...")
    return list(found.values())


def _load(name: str, target: str) -> ModuleType:
    if Path(name).suffix in SUFFIXES:
        raise Refused(
            f"{target}: a file, not a module; task graphs are run by `aetheris worker --tools MODULE`,"
            f" and MODULE is where their tools are"
        )
    if not name or name.startswith(".") or "/" in name or (name.endswith(".py") and Path(name).is_file()):
        way = name.removeprefix("./").removesuffix(".py").replace("/", ".")
        way = way if all(part.isidentifier() for part in way.split(".")) else "MODULE"
        meant = f"{way}{target.removeprefix(name)}"
        raise Refused(f"{target or 'an empty name'}: name the module as Python imports it from here: {meant}")
    # As `python -m` does: what lies in the folder one stands in can be named.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        asked = error.name is None or f"{name}.".startswith(f"{error.name}.")
        hint = "agents are named as module:agent" if asked else f"{name} imports it: install it beside Aetheris"
        raise Refused(f"{target}: no module {error.name!r} here or installed; {hint}") from None
    except AetherisError:
        raise
    except SyntaxError as error:  # its text names file and line
        raise Refused(f"{target}: SyntaxError: {error}") from None
    except SystemExit as error:  # left alone it would end the command, silently, with the module's own code
        raise Refused(
            f"{target}: it ends the program (exit {error.code}) when it is imported{_place(error)};"
            " put that under `if __name__ == '__main__':`"
        ) from None
    except Exception as error:  # whatever a person's own module may raise, it is no bug of ours
        raise Refused(f"{target}: {type(error).__name__}: {error}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """Return where the person's own code was when it raised, or nothing when none of it ran."""
    ran = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(os.getcwd())]
    return f" ({os.path.relpath(ran[-1].filename)}, line {ran[-1].lineno})" if ran else ""
