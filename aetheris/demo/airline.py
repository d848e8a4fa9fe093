"""The airline's 14 tools, and an agent whose model is a recorded run.

The agent plays the recorded assistant's turns: its tool calls truly execute,
with the recorded arguments, in the world that the job's input names; what it
says to the caller is recorded as a turn of talk. One event a turn (two for a
call that changes something).

Effects, declared as they are: looking, thinking and counting may run again;
booking, changing, paying and handing over happen once.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

import aetheris as ae
from aetheris.demo import calculator, lookups, rules
from aetheris.demo import desk as _desk
from aetheris.demo.rules import Number

Documents = list[dict[str, Any]]


class Turn(BaseModel):
    """One turn of the recorded assistant: it calls a tool, or says something and hears an answer."""

    said: str = ""
    heard: str = ""
    tool: str | None = None
    #: JSON, as the model wrote it: the order of its keys shows in what the tools answer.
    arguments: str = "{}"


class Script(BaseModel):
    """A recorded run, to be played in one world ("DATASET/NAME")."""

    world: str
    task_id: int
    trial: int
    opening: str = ""  # what the caller said first
    turns: list[Turn]


class Outcome(BaseModel):
    """How a played run ended."""

    calls: int
    said: int
    refused: dict[int, str]  # calls (from 1) that could not be made, and why
    last: str


@ae.tool(effect="none")
async def list_all_airports(world: str) -> str:
    """All airports and their cities."""
    return await lookups.airports(await _desk.airline(), world)


@ae.tool(effect="none")
async def search_direct_flight(world: str, origin: str, destination: str, date: str) -> str:
    """Direct flights on a date (YYYY-MM-DD) that can be booked."""
    return await lookups.direct(await _desk.airline(), world, origin, destination, date)


@ae.tool(effect="none")
async def search_onestop_flight(world: str, origin: str, destination: str, date: str) -> str:
    """Flights with one stop from a date on that can be booked."""
    return await lookups.onestop(await _desk.airline(), world, origin, destination, date)


@ae.tool(effect="none")
async def get_user_details(world: str, user_id: str) -> str:
    """A user's profile, with payment methods and reservations."""
    return await lookups.user(await _desk.airline(), world, user_id)


@ae.tool(effect="none")
async def get_reservation_details(world: str, reservation_id: str) -> str:
    """A reservation."""
    return await lookups.reservation(await _desk.airline(), world, reservation_id)


@ae.tool(effect="none")
async def calculate(expression: str) -> str:
    """The value of an arithmetic expression."""
    return calculator.calculate(expression)


@ae.tool(effect="none")
async def think(thought: str) -> str:
    """A thought, on record and nothing else."""
    return ""


@ae.tool(effect="none")
async def respond(said: str, heard: str) -> None:
    """A turn of talk with the caller, on record; the caller is a recording too."""


@ae.tool
async def book_reservation(
    call: ae.Call,
    world: str,
    user_id: str,
    origin: str,
    destination: str,
    flight_type: str,
    cabin: str,
    flights: Documents,
    passengers: Documents,
    payment_methods: Documents,
    total_baggages: Number,
    nonfree_baggages: Number,
    insurance: str,
) -> str:
    """Book flights for passengers and take the payments."""
    wanted = rules.book(
        user_id, origin, destination, flight_type, cabin, flights, passengers, payment_methods,
        total_baggages, nonfree_baggages, insurance,
    )  # fmt: skip
    return await (await _desk.airline()).change(world, call.key, *wanted)


@ae.tool
async def cancel_reservation(call: ae.Call, world: str, reservation_id: str) -> str:
    """Cancel a reservation and turn its payments back."""
    return await (await _desk.airline()).change(world, call.key, *rules.cancel(reservation_id))


@ae.tool
async def update_reservation_flights(
    call: ae.Call, world: str, reservation_id: str, cabin: str, flights: Documents, payment_id: str
) -> str:
    """Change a reservation's flights or cabin, and settle the difference."""
    wanted = rules.change_flights(reservation_id, cabin, flights, payment_id)
    return await (await _desk.airline()).change(world, call.key, *wanted)


@ae.tool
async def update_reservation_baggages(
    call: ae.Call, world: str, reservation_id: str, total_baggages: Number, nonfree_baggages: Number, payment_id: str
) -> str:
    """Change a reservation's bags, and take the fee for more."""
    wanted = rules.change_baggages(reservation_id, total_baggages, nonfree_baggages, payment_id)
    return await (await _desk.airline()).change(world, call.key, *wanted)


@ae.tool
async def update_reservation_passengers(call: ae.Call, world: str, reservation_id: str, passengers: Documents) -> str:
    """Change the names on a reservation."""
    wanted = rules.change_passengers(reservation_id, passengers)
    return await (await _desk.airline()).change(world, call.key, *wanted)


@ae.tool
async def send_certificate(call: ae.Call, world: str, user_id: str, amount: Number) -> str:
    """Give a user a travel certificate."""
    return await (await _desk.airline()).change(world, call.key, *rules.send_certificate(user_id, amount))


@ae.tool
async def transfer_to_human_agents(call: ae.Call, world: str, summary: str) -> str:
    """Hand the caller over to a person, with a summary."""
    return await (await _desk.airline()).change(world, call.key, *rules.hand_over(summary))


TOOLS: dict[str, ae.Tool[..., Any]] = {
    tool.name: tool
    for tool in (
        list_all_airports,
        search_direct_flight,
        search_onestop_flight,
        get_user_details,
        get_reservation_details,
        calculate,
        think,
        book_reservation,
        cancel_reservation,
        update_reservation_flights,
        update_reservation_baggages,
        update_reservation_passengers,
        send_certificate,
        transfer_to_human_agents,
    )
}


@ae.agent(name="airline", version="1")
async def airline(ctx: ae.Context, script: Script) -> Outcome:
    """Play a recorded run: its calls truly execute, its words are recorded."""
    calls, said, refused, last = 0, 0, {}, ""
    for turn in script.turns:
        if turn.said:
            said, last = said + 1, turn.said
            await ctx.call(respond, said=turn.said, heard=turn.heard)
        if turn.tool is not None:
            calls += 1
            if problem := await _make(ctx, script.world, turn.tool, turn.arguments):
                refused[calls] = problem
    return Outcome(calls=calls, said=said, refused=refused, last=last)


async def _make(ctx: ae.Context, world: str, name: str, arguments: str) -> str:
    """Make one call and return why it could not be made, if so: a recorded model may ask for anything."""
    tool = TOOLS.get(name)
    if tool is None:
        return f"there is no tool {name!r}"
    try:
        where = {} if tool in (calculate, think) else {"world": world}
        await ctx.call(tool, **{**json.loads(arguments), **where})
    except (ae.Refused, ae.ToolFailed) as error:
        return str(error)
    return ""
