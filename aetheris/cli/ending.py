"""How a job ended, in one line: its result, or why it failed."""

from __future__ import annotations

from aetheris.cli.screen import Screen
from aetheris.runtime.ending import Ending


def show_ending(ending: Ending, screen: Screen) -> None:
    """Print a finished job's result or error; nothing of one that goes on or was cancelled."""
    if ending.text is not None:
        cut = f"…  ({ending.characters:,} characters; --json gives all)" if ending.characters > len(ending.text) else ""
        screen.fact("result", ending.text + cut)
    elif ending.continued_as is not None:
        screen.fact("result", f"none of its own: it goes on as job {ending.continued_as[:8]}")
    elif (error := ending.error) is not None:
        where = f"  ({error['where']})" if error.get("where") else ""
        screen.line(f"failed because {error.get('kind')}: {error.get('message')}{where}", style="red")
