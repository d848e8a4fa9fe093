"""`init`, `up`, `down`: the database."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from aetheris.cli import starter
from aetheris.cli.connect import only_embedded, open_database, refuse_over_api
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen
from aetheris.store.database import Database, default_home
from aetheris.store.embedded import Embedded
from aetheris.store.migrate import migrate


@click.command()
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(path_type=Path))
@json_option
def init(folder: Path | None, screen: Screen) -> None:
    """Write a starter folder DIR: an agent, its input, how to run it. Without DIR, prepare the database.

    Nothing that is there is overwritten. Preparing (roles, tables, walls) is safe to run again.

    \b
    Example:  aetheris init desk
              AETHERIS_DSN=postgresql://admin@db/agents aetheris init
    """
    if folder is not None:
        written = starter.write(folder)
        screen.fact("wrote", ", ".join(str(path) for path in written))
        screen.line(f"Next:  cd {folder} && aetheris submit agents:desk -i ticket.json --wait")
        screen.json({"written": [str(path) for path in written]})
        return
    refuse_over_api()
    began = time.perf_counter()
    database = open_database()
    try:
        applied = asyncio.run(migrate(database))
        where = database.where
    finally:
        database.close()
    screen.fact("database", where, time.perf_counter() - began)
    screen.fact("schema", f"applied {', '.join(applied)}" if applied else "up to date")
    screen.json({"database": where, "applied": applied})


@click.command()
@json_option
def up(screen: Screen) -> None:
    """Start the embedded PostgreSQL and keep it until `aetheris down`.

    \b
    Example:  aetheris up
    """
    only_embedded()
    began = time.perf_counter()
    with Embedded(default_home()).keep() as running:
        asyncio.run(migrate(Database(running.dsn("aetheris_admin"), running)))
        version, note = running.version, running.note
    screen.fact(f"PostgreSQL {version}", f"up in {default_home()}, until `aetheris down`", time.perf_counter() - began)
    if note:
        screen.line(note)
    screen.line("Whoever can reach its socket is superuser there: it is for one person's machine.", style="dim")
    screen.json({"home": str(default_home()), "running": True, "version": version, "note": note})


@click.command()
@json_option
def down(screen: Screen) -> None:
    """Stop the embedded PostgreSQL. Jobs under way go on when it is up again.

    \b
    Example:  aetheris down
    """
    only_embedded()
    server = Embedded(default_home())
    ran = server.status().state not in ("absent", "stopped")
    stopped = server.down()
    if not stopped:
        words = "still in use by another process; it stops when the last one leaves"
    else:
        words = "stopped" if ran else f"was not running in {default_home()}"
    screen.fact("PostgreSQL", words)
    screen.json({"home": str(default_home()), "stopped": stopped, "was_running": ran})
