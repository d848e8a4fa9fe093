"""`config`: what is set, and whether it can be used."""

from __future__ import annotations

import click
import orjson

from aetheris.cli.main import Listing, json_option
from aetheris.cli.screen import Screen
from aetheris.runtime.config_file import load


@click.group(cls=Listing)
def config() -> None:
    """Look at the configuration: `check` it, or `show` what is in force.

    \b
    Example:  aetheris config check
    """


@config.command()
@json_option
def check(screen: Screen) -> None:
    """Say whether the file can be used; if not, which line, which key, and what was expected.

    \b
    Example:  aetheris --config staging.yaml config check
    """
    loaded = load()
    screen.line(f"{loaded.where}: sound, digest {loaded.config.sha256[:16]}")
    screen.json({"path": str(loaded.path or ""), "sha256": loaded.config.sha256})


@config.command()
@json_option
def show(screen: Screen) -> None:
    """Show every key with the value in force. A secret is shown as set or not, never as itself.

    \b
    Example:  aetheris config show --json
    """
    loaded = load()
    shown = loaded.config.shown()
    screen.line(f"# {loaded.where}, digest {loaded.config.sha256}")
    for section in _lines(shown, ""):
        screen.line(section)
    screen.json({"path": str(loaded.path or ""), "sha256": loaded.config.sha256, "in_force": shown})


def _lines(value: object, above: str) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for k, v in value.items() for line in _lines(v, f"{above}.{k}" if above else str(k))]
    return [f"{above}: {orjson.dumps(value).decode()}"]
