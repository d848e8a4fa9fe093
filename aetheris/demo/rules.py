"""The desk's rules for changes: what is checked in which order, what is paid, what is answered.

Each `…` function takes the caller's arguments and returns what must be known
first (`Wanted`) and a pure decision over it. A request that can't be met is
answered in words ("Error: …"), as one does with a caller, and changes nothing;
so is one that lacks a field, whose name is then the answer.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from aetheris.store.airline import Decide, Document, Outcome, Situation, Wanted

BAG_FEE = 50
INSURANCE_FEE = 30

Number = int | float
Change = tuple[Wanted, Decide]


class Declined(Exception):
    """The desk says no; its text is the answer."""


def book(
    user_id: str,
    origin: str,
    destination: str,
    flight_type: str,
    cabin: str,
    flights: list[Document],
    passengers: list[Document],
    payment_methods: list[Document],
    total_baggages: Number,
    nonfree_baggages: Number,
    insurance: str,
) -> Change:
    """A new reservation: seats must be free, and the payments must add up to the price."""

    def decide(now: Situation) -> Outcome:
        if now.user_id is None:
            raise Declined("Error: user not found")
        number = _fresh(now.desk["reservation_ids"], now.taken, "reservation")
        reservation = {
            "reservation_id": number,
            "user_id": user_id,
            "origin": origin,
            "destination": destination,
            "flight_type": flight_type,
            "cabin": cabin,
            "flights": copy.deepcopy(flights),
            "passengers": passengers,
            "payment_history": payment_methods,
            "created_at": now.desk["now"],
            "total_baggages": total_baggages,
            "nonfree_baggages": nonfree_baggages,
            "insurance": insurance,
        }
        price = sum(_price(leg, cabin, len(passengers), now) for leg in reservation["flights"])
        price += INSURANCE_FEE * len(passengers) if insurance == "yes" else 0
        price += BAG_FEE * nonfree_baggages
        methods = _pay(payment_methods, price, now)
        return Outcome(json.dumps(reservation), reservation, listed_for=user_id, methods=methods)

    return _legs_wanted(flights, user_id=user_id), _answering(decide)


def cancel(reservation_id: str) -> Change:
    """Cancel the whole reservation; every payment is turned back."""

    def decide(now: Situation) -> Outcome:
        reservation = _reservation(now)
        history = reservation["payment_history"]
        history += [{"payment_id": paid["payment_id"], "amount": -paid["amount"]} for paid in history]
        reservation["status"] = "cancelled"
        return Outcome(json.dumps(reservation), reservation)

    return Wanted(reservation_id=reservation_id), _answering(decide)


def change_flights(reservation_id: str, cabin: str, flights: list[Document], payment_id: str) -> Change:
    """Other flights or another cabin; the difference is paid, or paid back, by one method.

    A leg kept in its cabin keeps its price. Seats are not taken from a flight
    here: the desk's figures follow later.
    """

    def decide(now: Situation) -> Outcome:
        reservation = _reservation(now)
        before, heads = reservation["flights"], len(reservation["passengers"])
        after = copy.deepcopy(flights)
        price: Number = 0
        for leg in after:
            kept = [b for b in before if _same_leg(b, leg)] if cabin == reservation["cabin"] else []
            if kept:
                leg.update({name: kept[0][name] for name in ("price", "origin", "destination")})
                price += leg["price"] * heads
            else:
                price += _price(leg, cabin, heads, now)
        price -= sum(leg["price"] for leg in before) * heads
        methods = _charge(payment_id, price, now)
        reservation["flights"] = after
        _note_payment(reservation, payment_id, price)
        return Outcome(json.dumps(reservation), reservation, methods=methods)

    return _legs_wanted(flights, reservation_id=reservation_id), _answering(decide)


def change_baggages(reservation_id: str, total: Number, nonfree: Number, payment_id: str) -> Change:
    """More or fewer bags; bags beyond the paid ones cost a fee each, none is paid back."""

    def decide(now: Situation) -> Outcome:
        reservation = _reservation(now)
        price = BAG_FEE * max(0, nonfree - reservation["nonfree_baggages"])
        methods = _charge(payment_id, price, now)
        reservation["total_baggages"], reservation["nonfree_baggages"] = total, nonfree
        _note_payment(reservation, payment_id, price)
        return Outcome(json.dumps(reservation), reservation, methods=methods)

    return Wanted(reservation_id=reservation_id), _answering(decide)


def change_passengers(reservation_id: str, passengers: list[Document]) -> Change:
    """Other names for the same number of passengers."""

    def decide(now: Situation) -> Outcome:
        reservation = _reservation(now)
        if len(passengers) != len(reservation["passengers"]):
            raise Declined("Error: number of passengers does not match")
        reservation["passengers"] = passengers
        return Outcome(json.dumps(reservation), reservation)

    return Wanted(reservation_id=reservation_id), _answering(decide)


def send_certificate(user_id: str, amount: Number) -> Change:
    """A travel certificate for a user's next booking."""

    def decide(now: Situation) -> Outcome:
        if now.user_id is None:
            raise Declined("Error: user not found")
        names = [f"certificate_{number}" for number in now.desk["certificate_ids"]]
        name = _fresh(names, now.methods, "certificate")
        answer = f"Certificate {name} added to user {user_id} with amount {amount}."
        return Outcome(answer, methods={name: {"source": "certificate", "amount": amount, "id": name}})

    return Wanted(user_id=user_id), _answering(decide)


def hand_over(summary: str) -> Change:
    """Pass the caller to a person, with what they must know."""
    return Wanted(), lambda _: Outcome("Transfer successful", handover=summary)


def _answering(decide: Decide) -> Decide:
    def answered(now: Situation) -> Outcome:
        try:
            return decide(now)
        except Declined as no:
            return Outcome(str(no))
        except (KeyError, TypeError) as error:
            return Outcome(f"Error: {error}")

    return answered


def _legs_wanted(flights: list[Document], **whose: str) -> Wanted:
    return Wanted(
        **whose,
        flight_numbers=_texts(flights, "flight_number"),
        days=_texts(flights, "date"),
    )


def _texts(flights: list[Document], name: str) -> list[str]:
    return [text for leg in flights if isinstance(text := leg.get(name), str)]


def _reservation(now: Situation) -> Document:
    if now.reservation is None:
        raise Declined("Error: reservation not found")
    return now.reservation


def _same_leg(one: Document, other: Document) -> bool:
    return bool(one["flight_number"] == other["flight_number"] and one["date"] == other["date"])


def _price(leg: Document, cabin: str, heads: int, now: Situation) -> Number:
    """Fill in a leg's price and route, and return its price for everybody. Raises Declined."""
    number, date = leg["flight_number"], leg["date"]
    flight = now.flights.get(number)
    if flight is None:
        raise Declined(f"Error: flight {number} not found")
    day = flight["days"].get(date)
    if day is None:
        raise Declined(f"Error: flight {number} not found on date {date}")
    if day["status"] != "available":
        raise Declined(f"Error: flight {number} not available on date {date}")
    if day["available_seats"][cabin] < heads:
        raise Declined(f"Error: not enough seats on flight {number}")
    price: Number = day["prices"][cabin]
    leg.update(price=price, origin=flight["shown"]["origin"], destination=flight["shown"]["destination"])
    return price * heads


def _pay(payments: list[Document], price: Number, now: Situation) -> dict[str, Document | None]:
    """Return the methods as they are after paying for a booking. Raises Declined."""
    for payment in payments:
        name, amount = payment["payment_id"], payment["amount"]
        if name not in now.methods:
            raise Declined(f"Error: payment method {name} not found")
        method = now.methods[name]
        if method["source"] in ("gift_card", "certificate") and method["amount"] < amount:
            raise Declined(f"Error: not enough balance in payment method {name}")
    paid = sum(payment["amount"] for payment in payments)
    if paid != price:
        raise Declined(f"Error: payment amount does not add up, total price is {price}, but paid {paid}")
    after: dict[str, Document | None] = {}
    for payment in payments:
        name = payment["payment_id"]
        method_left = after.get(name, now.methods[name])
        if method_left is None:
            raise KeyError(name)  # a certificate pays once, whatever is left of it
        if method_left["source"] == "certificate":
            after[name] = None
        elif method_left["source"] == "gift_card":
            after[name] = {**method_left, "amount": method_left["amount"] - payment["amount"]}
    return after


def _charge(name: str, price: Number, now: Situation) -> dict[str, Document | None]:
    """Return the method as it is after paying (or being paid back) a difference. Raises Declined."""
    method = now.methods.get(name)
    if method is None:
        raise Declined("Error: payment method not found")
    if method["source"] == "certificate":
        raise Declined("Error: certificate cannot be used to update reservation")
    if method["source"] != "gift_card":
        return {}
    if method["amount"] < price:
        raise Declined("Error: gift card balance is not enough")
    return {name: {**method, "amount": method["amount"] - price}}


def _note_payment(reservation: Document, payment_id: str, price: Number) -> None:
    if price != 0:
        reservation["payment_history"].append({"payment_id": payment_id, "amount": price})


def _fresh(names: list[str], taken: Any, what: str) -> str:
    for name in names:
        if name not in taken:
            return name
    raise Declined(f"Error: no {what} number is left")
