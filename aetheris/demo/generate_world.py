"""Makes an airline: cities, flights over three weeks, users, reservations. Seeded: the same seed, the same airline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from random import Random
from typing import Any

from aetheris.store.airline_data import DataSet

FIRST_DAY = date(2026, 3, 1)
TODAY = date(2026, 3, 10)
DAYS = 21
USERS = 90
CABINS = ("basic_economy", "economy", "business")

CITIES = {
    "OSL": "Oslo",
    "CPH": "Copenhagen",
    "HEL": "Helsinki",
    "DUB": "Dublin",
    "EDI": "Edinburgh",
    "BRU": "Brussels",
    "VIE": "Vienna",
    "PRG": "Prague",
    "LIS": "Lisbon",
    "ATH": "Athens",
}
_GIVEN = ("Ana", "Bruno", "Clara", "Dmitri", "Elif", "Finn", "Greta", "Hugo", "Ines", "Jonas", "Katya", "Leo", "Maren",
          "Nadia", "Oskar", "Petra", "Rune", "Saskia", "Tomas", "Vera")  # fmt: skip
_FAMILY = ("Aalto", "Berg", "Costa", "Dvorak", "Eriksen", "Ferreira", "Gruber", "Horvat", "Iversen", "Janssen", "Kaya",
           "Lindqvist", "Moreau", "Novak", "Olsen", "Papadakis", "Quinn", "Rossi", "Sorensen", "Tamm")  # fmt: skip
_STREETS = ("Harbour Road", "Mill Lane", "Station Street", "Garden Walk", "Castle Hill", "Market Square")

Document = dict[str, Any]


def make_world(random: Random) -> DataSet:
    """Return a new airline, with some bookings in it."""
    flights = _flights(random)
    users: dict[str, Document] = {}
    while len(users) < USERS:
        name, profile = _user(random)
        users.setdefault(name, profile)
    reservations: dict[str, Document] = {}
    for name, profile in users.items():
        for _ in range(random.randrange(1, 4)):
            made = _reservation(random, name, profile, flights, _number(random, reservations))
            reservations[made["reservation_id"]] = made
            profile["reservations"].append(made["reservation_id"])
    desk = {
        "airports": CITIES,
        "now": f"{TODAY.isoformat()}T09:00:00",
        "reservation_ids": ["NEW0A1", "NEW0A2", "NEW0A3"],
        "certificate_ids": [7000001, 7000002, 7000003],
    }
    return DataSet(users, flights, reservations, desk)


def _flights(random: Random) -> dict[str, Document]:
    flights = {}
    routes = [(a, b) for a in CITIES for b in CITIES if a != b]
    # A fifth of the routes has no direct flight, so that stops are needed; some have two.
    chosen = [route for route in routes if random.random() < 0.8] + random.sample(routes, 18)
    for at, (origin, destination) in enumerate(chosen):
        number = f"AE{201 + at}"
        departs = 5 * random.randrange(60, 285)
        lands = departs + 5 * random.randrange(13, 50)
        flights[number] = {
            "flight_number": number,
            "origin": origin,
            "destination": destination,
            "scheduled_departure_time_est": _clock(departs),
            "scheduled_arrival_time_est": _clock(lands),
            "dates": {
                (day := FIRST_DAY + timedelta(days=ahead)).isoformat(): _day(random, day, departs, lands)
                for ahead in range(DAYS)
            },
        }
    return flights


def _day(random: Random, day: date, departs: int, lands: int) -> Document:
    late = 5 * random.randrange(-1, 8)
    if random.random() < 0.04:
        return {"status": "cancelled"}
    if day < TODAY:
        return {
            "status": "landed",
            "actual_departure_time_est": _moment(day, departs + late),
            "actual_arrival_time_est": _moment(day, lands + late),
        }
    if day == TODAY:
        if random.random() < 0.5:
            return {
                "status": "delayed",
                "estimated_departure_time_est": _moment(day, departs + 45),
                "estimated_arrival_time_est": _moment(day, lands + 45),
            }
        return {"status": "on time"}
    base = random.randrange(40, 120)
    return {
        "status": "available",
        "available_seats": {cabin: random.randrange(0, 20) for cabin in CABINS},
        "prices": {"basic_economy": base, "economy": base + random.randrange(20, 80), "business": 3 * base + 90},
    }


def _user(random: Random) -> tuple[str, Document]:
    given, family = random.choice(_GIVEN), random.choice(_FAMILY)
    number = random.randrange(1000, 10000)
    methods = [_method(random, kind) for kind in ("credit_card", *random.sample(["gift_card", "certificate"] * 2, 2))]
    profile = {
        "name": {"first_name": given, "last_name": family},
        "address": {
            "address1": f"{random.randrange(1, 200)} {random.choice(_STREETS)}",
            "city": random.choice(list(CITIES.values())),
            "zip": f"{random.randrange(10_000, 100_000)}",
        },
        "email": f"{given.lower()}.{family.lower()}{number}@example.com",
        "dob": _birthday(random),
        "payment_methods": {method["id"]: method for method in methods},
        "saved_passengers": [_passenger(random) for _ in range(random.randrange(0, 3))],
        "membership": random.choice(["regular", "silver", "gold"]),
        "reservations": [],
    }
    return f"{given}_{family}_{number}".lower(), profile


def _method(random: Random, kind: str) -> Document:
    name = f"{kind}_{random.randrange(1_000_000, 7_000_000)}"
    if kind == "credit_card":
        return {
            "source": kind,
            "brand": random.choice(["visa", "mastercard"]),
            "last_four": f"{random.randrange(10_000):04}",
            "id": name,
        }
    return {"source": kind, "amount": 10 * random.randrange(4, 30), "id": name}


def _reservation(random: Random, user: str, profile: Document, flights: dict[str, Document], number: str) -> Document:
    cabin = random.choice(CABINS)
    first = random.choice(list(flights.values()))
    legs = [_leg(random, first, cabin)]
    back = [f for f in flights.values() if (f["origin"], f["destination"]) == (first["destination"], first["origin"])]
    if back and random.random() < 0.4:
        legs.append(_leg(random, back[0], cabin))
    me = {**profile["name"], "dob": profile["dob"]}
    passengers = [me, *profile["saved_passengers"][: random.randrange(0, 3)]]
    card = next(iter(profile["payment_methods"]))
    paid = sum(leg["price"] for leg in legs) * len(passengers)
    return {
        "reservation_id": number,
        "user_id": user,
        "origin": first["origin"],
        "destination": first["destination"],
        "flight_type": "round_trip" if len(legs) == 2 else "one_way",
        "cabin": cabin,
        "flights": legs,
        "passengers": passengers,
        "payment_history": [{"payment_id": card, "amount": paid}],
        "created_at": f"{FIRST_DAY - timedelta(days=random.randrange(1, 30))}T{_clock(random.randrange(1440))}",
        "total_baggages": random.randrange(0, 3),
        "nonfree_baggages": 0,
        "insurance": random.choice(["yes", "no"]),
    }


def _leg(random: Random, flight: Document, cabin: str) -> Document:
    day = (TODAY + timedelta(days=random.randrange(-3, 9))).isoformat()
    shown = flight["dates"][day]
    price = shown["prices"][cabin] if shown["status"] == "available" else random.randrange(60, 300)
    return {
        "origin": flight["origin"],
        "destination": flight["destination"],
        "flight_number": flight["flight_number"],
        "date": day,
        "price": price,
    }


def _passenger(random: Random) -> Document:
    return {"first_name": random.choice(_GIVEN), "last_name": random.choice(_FAMILY), "dob": _birthday(random)}


def _birthday(random: Random) -> str:
    return (date(1950, 1, 1) + timedelta(days=random.randrange(20_000))).isoformat()


def _number(random: Random, taken: dict[str, Document]) -> str:
    letters: Sequence[str] = "ABCDEFGHJKLMPQRSTUVWXYZ23456789"
    while (number := "".join(random.choice(letters) for _ in range(6))) in taken:
        pass
    return number


def _clock(minutes: int) -> str:
    past = "+1" if minutes >= 1440 else ""
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}:00{past}"


def _moment(day: date, minutes: int) -> str:
    return f"{day + timedelta(days=minutes // 1440)}T{minutes // 60 % 24:02}:{minutes % 60:02}:00"
