"""What the desk answers when nothing changes: searches, profiles, reservations."""

from __future__ import annotations

import json
from datetime import date, timedelta

from aetheris.store.airline import Airline, Leg


async def airports(airline: Airline, world: str) -> str:
    """All airports and their cities."""
    return json.dumps(await airline.airports(world))


async def direct(airline: Airline, world: str, origin: str, destination: str, day: str) -> str:
    """Flights of a route on a day that can be booked, with seats and prices."""
    return json.dumps([_told(leg) for leg in await airline.direct(world, origin, destination, day)])


async def onestop(airline: Airline, world: str, origin: str, destination: str, day: str) -> str:
    """Pairs of flights with one stop, each leg with its date."""
    pairs = await airline.onestop(world, origin, destination, day, _day_after(day))
    return json.dumps([[{**_told(leg), "date": leg.date} for leg in pair] for pair in pairs])


async def user(airline: Airline, world: str, user_id: str) -> str:
    """A user's profile."""
    found = await airline.user(world, user_id)
    return "Error: user not found" if found is None else json.dumps(found)


async def reservation(airline: Airline, world: str, reservation_id: str) -> str:
    """A reservation. (A missing one is answered as the original desk does, with the wrong noun.)"""
    found = await airline.reservation(world, reservation_id)
    return "Error: user not found" if found is None else json.dumps(found)


def _told(leg: Leg) -> dict[str, object]:
    return {**leg.flight, **leg.day}


def _day_after(day: str) -> str | None:
    try:
        return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return None
