"""The desk once more, over plain dicts in memory: what the generator's recordings say.

Written apart from `rules`, `lookups` and the SQL on purpose. That the tools
reproduce what this file answers proves something only while the two share nothing.
"""

from __future__ import annotations

import copy
import json
import re
from fractions import Fraction
from typing import Any

from aetheris.store.airline_data import DataSet

Document = dict[str, Any]
_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|[-+*/()])")


class ReferenceDesk:
    """One world in memory: `ask(tool, arguments)` answers and changes it."""

    def __init__(self, data: DataSet) -> None:
        self._flights, self._desk = data.flights, data.desk
        self._users = copy.deepcopy(dict(data.users))
        self._bookings = copy.deepcopy(dict(data.reservations))

    def ask(self, tool: str, arguments: Document) -> str:
        """Return the text that the tool answers."""
        answer = getattr(self, tool)(**copy.deepcopy(arguments))
        return answer if isinstance(answer, str) else json.dumps(answer)

    def list_all_airports(self) -> Document:
        """Code and city of each."""
        return dict(self._desk["airports"])

    def get_user_details(self, user_id: str) -> Any:
        """The profile."""
        return self._users.get(user_id, "Error: user not found")

    def get_reservation_details(self, reservation_id: str) -> Any:
        """The booking."""
        return self._bookings.get(reservation_id, "Error: user not found")

    def search_direct_flight(self, origin: str, destination: str, date: str) -> list[Document]:
        """Flights with seats on sale that day."""
        return [self._told(f, date) for f in self._route(origin, destination) if self._on_sale(f, date)]

    def search_onestop_flight(self, origin: str, destination: str, date: str) -> list[list[Document]]:
        """Pairs with one stop; the second leg is told with the first day's figures, as desks do."""
        pairs = []
        for first in self._flights.values():
            if first["origin"] != origin or not self._on_sale(first, date):
                continue
            days = list(first["dates"])
            at = days.index(date) + first["scheduled_arrival_time_est"].count("+1")
            for second in self._route(first["destination"], destination):
                connects = second["scheduled_departure_time_est"] >= first["scheduled_arrival_time_est"]
                if connects and at < len(days) and self._on_sale(second, days[at]):
                    pairs.append(
                        [{**self._told(first, date), "date": date}, {**self._told(second, date), "date": days[at]}]
                    )
        return pairs

    def calculate(self, expression: str) -> str:
        """The value, to two decimals."""
        tokens = _TOKEN.findall(expression)
        return str(round(float(_sum(tokens)), 2))

    def think(self, thought: str) -> str:
        """Nothing."""
        return thought[:0]

    def transfer_to_human_agents(self, summary: str) -> str:
        """A person takes over."""
        return "Transfer successful" if summary is not None else ""

    def send_certificate(self, user_id: str, amount: int) -> str:
        """A new certificate."""
        if user_id not in self._users:
            return "Error: user not found"
        wallet = self._users[user_id]["payment_methods"]
        name = next(n for i in self._desk["certificate_ids"] if (n := f"certificate_{i}") not in wallet)
        wallet[name] = {"source": "certificate", "amount": amount, "id": name}
        return f"Certificate {name} added to user {user_id} with amount {amount}."

    def book_reservation(self, **asked: Any) -> Any:
        """A new booking."""
        user = self._users.get(asked["user_id"])
        if user is None:
            return "Error: user not found"
        heads, total = len(asked["passengers"]), 0
        for leg in asked["flights"]:
            problem = self._price(leg, asked["cabin"], heads)
            if problem:
                return problem
            total += leg["price"] * heads
        total += 50 * asked["nonfree_baggages"] + (30 * heads if asked["insurance"] == "yes" else 0)
        wallet, payments = user["payment_methods"], asked.pop("payment_methods")
        for payment in payments:
            name = payment["payment_id"]
            if name not in wallet:
                return f"Error: payment method {name} not found"
            if wallet[name].get("amount", payment["amount"]) < payment["amount"]:
                return f"Error: not enough balance in payment method {name}"
        paid = sum(payment["amount"] for payment in payments)
        if paid != total:
            return f"Error: payment amount does not add up, total price is {total}, but paid {paid}"
        for payment in payments:
            method = wallet[payment["payment_id"]]
            if method["source"] == "certificate":
                del wallet[payment["payment_id"]]
            elif method["source"] == "gift_card":
                method["amount"] -= payment["amount"]
        number = next(n for n in self._desk["reservation_ids"] if n not in self._bookings)
        order = ("user_id", "origin", "destination", "flight_type", "cabin", "flights", "passengers")
        booking = {"reservation_id": number, **{name: asked[name] for name in order}, "payment_history": payments}
        booking["created_at"] = self._desk["now"]
        booking.update({name: asked[name] for name in ("total_baggages", "nonfree_baggages", "insurance")})
        self._bookings[number] = booking
        user["reservations"].append(number)
        return booking

    def cancel_reservation(self, reservation_id: str) -> Any:
        """The booking, turned back."""
        booking = self._bookings.get(reservation_id)
        if booking is None:
            return "Error: reservation not found"
        for paid in booking["payment_history"][:]:
            booking["payment_history"].append({"payment_id": paid["payment_id"], "amount": -paid["amount"]})
        booking["status"] = "cancelled"
        return booking

    def update_reservation_flights(
        self, reservation_id: str, cabin: str, flights: list[Document], payment_id: str
    ) -> Any:
        """Other flights or another cabin."""
        booking = self._bookings.get(reservation_id)
        if booking is None:
            return "Error: reservation not found"
        heads = len(booking["passengers"])
        held = {(leg["flight_number"], leg["date"]): leg for leg in booking["flights"]}
        for leg in flights:
            same = held.get((leg["flight_number"], leg["date"]))
            if same is not None and cabin == booking["cabin"]:
                leg.update(price=same["price"], origin=same["origin"], destination=same["destination"])
            elif problem := self._price(leg, cabin, heads):
                return problem
        due = heads * (sum(leg["price"] for leg in flights) - sum(leg["price"] for leg in booking["flights"]))
        if problem := self._settle(booking, payment_id, due):
            return problem
        booking["flights"] = flights
        return booking

    def update_reservation_baggages(
        self, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
    ) -> Any:
        """Other bags."""
        booking = self._bookings.get(reservation_id)
        if booking is None:
            return "Error: reservation not found"
        due = max(nonfree_baggages - booking["nonfree_baggages"], 0) * 50
        if problem := self._settle(booking, payment_id, due):
            return problem
        booking.update(total_baggages=total_baggages, nonfree_baggages=nonfree_baggages)
        return booking

    def update_reservation_passengers(self, reservation_id: str, passengers: list[Document]) -> Any:
        """Other names."""
        booking = self._bookings.get(reservation_id)
        if booking is None:
            return "Error: reservation not found"
        if len(booking["passengers"]) != len(passengers):
            return "Error: number of passengers does not match"
        booking["passengers"] = passengers
        return booking

    def _route(self, origin: str, destination: str) -> list[Document]:
        return [f for f in self._flights.values() if (f["origin"], f["destination"]) == (origin, destination)]

    def _on_sale(self, flight: Document, date: str) -> bool:
        return bool(flight["dates"].get(date, {}).get("status") == "available")

    def _told(self, flight: Document, date: str) -> Document:
        told = dict(flight)
        del told["dates"]
        told.update(flight["dates"][date])
        return told

    def _price(self, leg: Document, cabin: str, heads: int) -> str:
        number, date = leg["flight_number"], leg["date"]
        if number not in self._flights:
            return f"Error: flight {number} not found"
        flight = self._flights[number]
        if date not in flight["dates"]:
            return f"Error: flight {number} not found on date {date}"
        if not self._on_sale(flight, date):
            return f"Error: flight {number} not available on date {date}"
        if flight["dates"][date]["available_seats"][cabin] < heads:
            return f"Error: not enough seats on flight {number}"
        leg["price"] = flight["dates"][date]["prices"][cabin]
        leg["origin"], leg["destination"] = flight["origin"], flight["destination"]
        return ""

    def _settle(self, booking: Document, name: str, due: int) -> str:
        method = self._users[booking["user_id"]]["payment_methods"].get(name)
        if method is None:
            return "Error: payment method not found"
        if method["source"] == "certificate":
            return "Error: certificate cannot be used to update reservation"
        if method["source"] == "gift_card":
            if method["amount"] < due:
                return "Error: gift card balance is not enough"
            method["amount"] -= due
        if due:
            booking["payment_history"].append({"payment_id": name, "amount": due})
        return ""


def _sum(tokens: list[str]) -> Fraction:
    value = _product(tokens)
    while tokens and tokens[0] in "+-":
        value = value + _product(tokens) if tokens.pop(0) == "+" else value - _product(tokens)
    return value


def _product(tokens: list[str]) -> Fraction:
    value = _atom(tokens)
    while tokens and tokens[0] in "*/":
        value = value * _atom(tokens) if tokens.pop(0) == "*" else value / _atom(tokens)
    return value


def _atom(tokens: list[str]) -> Fraction:
    token = tokens.pop(0)
    if token == "(":
        value = _sum(tokens)
        tokens.pop(0)
        return value
    return -_atom(tokens) if token == "-" else Fraction(token)
