"""The first agent that a newcomer meets: it refunds a ticket, and asks a person before it pays."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel

import aetheris as ae

#: What the bank was asked for, in this process: stands in for the outside world.
BANK: list[str] = []


class Ticket(BaseModel):
    """What a job is given."""

    booking: str
    cents: int
    iban: Annotated[str, ae.Sensitive]  # a cell of its own: redactable, erasable


@ae.tool(effect="none")
def fee(cents: int) -> int:
    """What the airline keeps. Reading only, so it may run again."""
    return cents // 10


@ae.tool
def refund(call: ae.Call, booking: str, cents: int, iban: Annotated[str, ae.Sensitive]) -> str:
    """Pay money back: started at most once per step, whatever dies and whenever."""
    BANK.append(call.key)
    return f"refunded {cents} for {booking}"


@ae.agent(version="1")
async def desk(ctx: ae.Context, ticket: Ticket) -> str:
    """Reckon the fee, ask a person, pay."""
    back = ticket.cents - await ctx.call(fee, cents=ticket.cents)
    answer = await ctx.approval(f"Refund {back} cents for {ticket.booking}?", role="operator")
    if not answer:
        return "refused"
    said: str = await ctx.call(refund, booking=ticket.booking, cents=back, iban=ticket.iban)
    return said
