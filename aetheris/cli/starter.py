"""The folder that `aetheris init DIR` writes: an agent with a tool that happens once, and how to run it."""

from __future__ import annotations

from pathlib import Path

from aetheris.domain.errors import Refused

AGENT = '''"""An agent that refunds a ticket. Change it: it is yours."""

import json
from pathlib import Path

from pydantic import BaseModel

import aetheris as ae

BANK = Path(__file__).with_name("bank.jsonl")  # stands in for the outside world


class Ticket(BaseModel):
    """What a job is given."""

    booking: str
    cents: int


@ae.tool(effect="none")
def fee(cents: int) -> int:
    """What the airline keeps. Reading only, so it may run again."""
    return cents // 10


@ae.tool  # effect="once": started at most once per step, whatever dies and whenever
def refund(call: ae.Call, booking: str, cents: int) -> str:
    """Pay money back. `call.key` is the same for every attempt: a real bank refuses a key it has seen."""
    with BANK.open("a") as bank:
        bank.write(json.dumps({"key": call.key, "booking": booking, "cents": cents}) + "\\n")
    return f"refunded {cents}"


@ae.agent(version="1")
async def desk(ctx: ae.Context, ticket: Ticket) -> str:
    """The job: its code may start again anywhere, its recorded calls don't."""
    kept = await ctx.call(fee, cents=ticket.cents)
    return await ctx.call(refund, booking=ticket.booking, cents=ticket.cents - kept)
'''
TICKET = '{"booking": "4WQ150", "cents": 4200}\n'
README = """# An agent of your own

    aetheris submit agents:desk -i ticket.json --wait     # run one job here, on an embedded PostgreSQL
    aetheris jobs                                         # what ran
    aetheris trace JOB                                    # what it did; the start of its id is enough
    aetheris export JOB -o e.zip && aetheris verify e.zip # evidence that a stranger checks

In production a worker serves the same file: `aetheris worker agents:desk`.
Data lies in `.aetheris` here; with AETHERIS_DSN, in a PostgreSQL of your own.
"""
FILES = {"agents.py": AGENT, "ticket.json": TICKET, "README.md": README}


def write(folder: Path) -> list[Path]:
    """Write the starter's files into `folder` (made where it is missing) and return them.

    Errors: Refused when one of them is there already; nothing is written then.
    """
    paths = {folder / name: text for name, text in FILES.items()}
    if there := [path for path in paths if path.exists() or path.is_symlink()]:
        raise Refused(f"{there[0]}: is there already, and nothing is overwritten; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise Refused(f"can't write {error.filename or folder}: {(error.strerror or str(error)).lower()}") from None
    return list(paths)
