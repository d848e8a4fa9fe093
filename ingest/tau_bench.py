"""Recorded airline-agent runs and the world they began in, as tau-bench and our generator write them.

    FOLDER/users.json[.gz]         user id -> profile
    FOLDER/flights.json[.gz]       flight number -> flight, with its days under `dates`
    FOLDER/reservations.json[.gz]  reservation id -> reservation
    FOLDER/desk.json[.gz]          airports, now, reservation_ids, certificate_ids (tau-bench has none: DESK)
    runs.jsonl[.gz]                a run per line: task_id, trial, traj (OpenAI chat messages)

Reading is strict. A mistake is one `Unusable` line that names file and line,
so that a wrong world is not mistaken for a wrong answer later.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from aetheris.domain.errors import Unusable
from aetheris.store.airline_data import DataSet

BYTES_LIMIT = 512 * 1024 * 1024
CABINS = ("basic_economy", "economy", "business")
ROLES = frozenset({"system", "user", "assistant", "tool"})

#: What tau-bench's airline desk knows beside its three files.
DESK: dict[str, Any] = {
    "airports": {
        "SFO": "San Francisco",
        "JFK": "New York",
        "LAX": "Los Angeles",
        "ORD": "Chicago",
        "DFW": "Dallas",
        "DEN": "Denver",
        "SEA": "Seattle",
        "ATL": "Atlanta",
        "MIA": "Miami",
        "BOS": "Boston",
        "PHX": "Phoenix",
        "IAH": "Houston",
        "LAS": "Las Vegas",
        "MCO": "Orlando",
        "EWR": "Newark",
        "CLT": "Charlotte",
        "MSP": "Minneapolis",
        "DTW": "Detroit",
        "PHL": "Philadelphia",
        "LGA": "LaGuardia",
    },
    "now": "2024-05-15T15:00:00",
    "reservation_ids": ["HATHAT", "HATHAU", "HATHAV"],
    "certificate_ids": [3221322, 3221323, 3221324],
}


@dataclass(frozen=True, slots=True)
class Run:
    """One recorded run: its messages in order, each tool call answered by the message that follows."""

    task_id: int
    trial: int
    reward: float | None
    goal: str
    messages: list[dict[str, Any]]


def read_runs(path: Path) -> list[Run]:
    """Return the runs of a .jsonl or .jsonl.gz file. Errors: Unusable, with file and line."""
    runs = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            runs.append(_run(_Place(path, number), _json(line, path, number)))
    if not runs:
        raise Unusable(f"{path}: holds no run")
    return runs


def read_world(folder: Path, *, renamed: Mapping[str, str] | None = None) -> DataSet:
    """Return the data set of a folder. Errors: Unusable, with file and line.

    `renamed` gives fields of user addresses another name, as {"state":
    "province"}: for runs recorded when the world's file had that name.
    """
    users, flights, reservations = (_Table.read(folder, name) for name in ("users", "flights", "reservations"))
    for table, check in ((users, _user), (flights, _flight), (reservations, _reservation)):
        for key, row in table.rows.items():
            check(table, key, row)
    _whole(users, reservations)
    profiles = {key: _rename(row, renamed or {}) for key, row in users.rows.items()}
    return DataSet(profiles, flights.rows, reservations.rows, _desk(folder))


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    line: int

    def bad(self, what: str) -> NoReturn:
        raise Unusable(f"{self.path}:{self.line}: {what}")


@dataclass(frozen=True, slots=True)
class _Table:
    path: Path
    text: str
    rows: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path, name: str) -> _Table:
        path = _find(folder, name)
        if path is None:
            raise Unusable(
                f"{folder}: has no {name}.json or {name}.json.gz; a world needs users, flights, reservations"
            )
        text = _text(path)
        rows = _json(text, path, 1)
        if type(rows) is not dict or any(type(row) is not dict for row in rows.values()):
            _Place(path, 1).bad("not an object of objects")
        return cls(path, text, rows)

    def bad(self, key: str, what: str) -> NoReturn:
        """Complain of the row `key`, at the line where its name first stands."""
        at = self.text.find(json.dumps(key))
        _Place(self.path, self.text.count("\n", 0, max(at, 0)) + 1).bad(f"{key}: {what}")


def names_in_force(runs: Iterable[Run]) -> dict[str, str]:
    """Return the fields of the world's files that the recorded tools call otherwise: {file's name: recorded name}.

    The runs were recorded when an address had a `province`; the published
    users file has since come to call it `state`. A tool's words are part of
    what its callers know, so the world is read under the recorded name.
    """
    told = (m for run in runs for m in run.messages if m["role"] == "tool" and m.get("name") == "get_user_details")
    return {"state": "province"} if any('"province": ' in (m["content"] or "") for m in told) else {}


def _find(folder: Path, name: str) -> Path | None:
    return next((p for end in (".json", ".json.gz") if (p := folder / f"{name}{end}").is_file()), None)


def _text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(BYTES_LIMIT + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Unusable(f"{path}: not a whole gzip file ({error})") from None
    except OSError as error:
        raise Unusable(f"{path}: can't be read ({error.strerror or error})") from None
    if len(raw) > BYTES_LIMIT:
        raise Unusable(f"{path}: longer than {BYTES_LIMIT} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        _Place(path, raw.count(b"\n", 0, error.start) + 1).bad("not UTF-8")


def _json(text: str, path: Path, line: int) -> Any:
    place = _Place(path, line)

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(found)
        if len(value) != len(found):
            names = [name for name, _ in found]
            place.bad(f"an object has {next(n for n in names if names.count(n) > 1)!r} twice")
        return value

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=lambda name: place.bad(f"{name} is not JSON"))
    except json.JSONDecodeError as error:
        _Place(path, line + error.lineno - 1).bad(f"not JSON at column {error.colno}: {error.msg}")
    except RecursionError:
        place.bad("nested too deeply")


def _run(place: _Place, value: Any) -> Run:
    if type(value) is not dict:
        place.bad("a run is a JSON object")
    for name, kind in (("task_id", int), ("trial", int), ("traj", list)):
        if type(value.get(name)) is not kind:
            place.bad(f"a run needs {name!r} ({'a list of messages' if kind is list else 'a whole number'})")
    reward = value.get("reward")
    if reward is not None and type(reward) not in (int, float):
        place.bad("'reward' is not a number")
    _check_messages(place, value["traj"])
    return Run(value["task_id"], value["trial"], reward, _goal(value), value["traj"])


def _goal(value: dict[str, Any]) -> str:
    for name in ("info", "task", "instruction"):
        value = value.get(name) if isinstance(value, dict) else None  # type: ignore[assignment]
    return value if isinstance(value, str) else ""


def _check_messages(place: _Place, messages: list[Any]) -> None:
    waiting: list[tuple[str, str]] = []  # calls not answered yet: (id, name)
    for at, message in enumerate(messages, 1):
        if type(message) is not dict or message.get("role") not in ROLES:
            place.bad(f"message {at} has no role (system, user, assistant or tool)")
        if waiting and message["role"] != "tool":
            place.bad(f"message {at}: the call of {waiting[0][1]} before it has no result")
        if type(message.get("content")) not in (str, type(None)):
            place.bad(f"message {at}: its content is not text")
        if message["role"] == "tool":
            if not waiting or (message.get("tool_call_id"), message.get("name")) != waiting[0]:
                place.bad(f"message {at}: a result of no call before it")
            if type(message["content"]) is not str:
                place.bad(f"message {at}: a result without text")
            waiting.pop(0)
        waiting += [(call["id"], call["function"]["name"]) for call in _calls(place, at, message)]
    if waiting:
        place.bad(f"the last call, of {waiting[0][1]}, has no result")


def _calls(place: _Place, at: int, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    calls = message.get("tool_calls") or []
    if type(calls) is not list or (calls and message["role"] != "assistant"):
        place.bad(f"message {at}: tool_calls is not a list in an assistant's message")
    for call in calls:
        function = call.get("function") if type(call) is dict else None
        if type(function) is not dict or type(call.get("id")) is not str or type(function.get("name")) is not str:
            place.bad(f"message {at}: a tool call needs an id and a function with a name")
        text = function.get("arguments")
        arguments = _json(text, place.path, place.line) if type(text) is str else None
        if type(arguments) is not dict:
            place.bad(f"message {at}: the arguments of {function['name']} are not the text of a JSON object")
        yield call


def _user(table: _Table, key: str, row: dict[str, Any]) -> None:
    methods, listed = row.get("payment_methods"), row.get("reservations")
    if type(methods) is not dict or type(listed) is not list:
        table.bad(key, "a user needs payment_methods (an object) and reservations (a list)")
    if type(row.get("address", {})) is not dict:
        table.bad(key, "address is not an object")
    for name, method in methods.items():
        if type(method) is not dict or type(method.get("source")) is not str:
            table.bad(key, f"payment method {name} has no source")
        if method["source"] in ("gift_card", "certificate") and type(method.get("amount")) not in (int, float):
            table.bad(key, f"payment method {name} has no amount")


def _flight(table: _Table, key: str, row: dict[str, Any]) -> None:
    for name in ("origin", "destination", "scheduled_departure_time_est", "scheduled_arrival_time_est"):
        if type(row.get(name)) is not str:
            table.bad(key, f"{name} is not text")
    if type(row.get("dates")) is not dict:
        table.bad(key, "dates is not an object")
    for day, shown in row["dates"].items():
        if type(shown) is not dict or type(shown.get("status")) is not str:
            table.bad(key, f"{day} has no status")
        for name in ("available_seats", "prices") if shown["status"] == "available" else ():
            figures = shown.get(name)
            if type(figures) is not dict or any(type(figures.get(cabin)) is not int for cabin in CABINS):
                table.bad(key, f"{day}: {name} is not a whole number for each of {', '.join(CABINS)}")


def _reservation(table: _Table, key: str, row: dict[str, Any]) -> None:
    if row.get("reservation_id") != key:
        table.bad(key, f"its reservation_id is {row.get('reservation_id')!r}")
    for name in ("flights", "passengers", "payment_history"):
        if type(row.get(name)) is not list or any(type(item) is not dict for item in row[name]):
            table.bad(key, f"{name} is not a list of objects")


def _whole(users: _Table, reservations: _Table) -> None:
    for key, row in reservations.rows.items():
        if row.get("user_id") not in users.rows:
            reservations.bad(key, f"belongs to {row.get('user_id')!r}, who is not in {users.path.name}")
    for key, row in users.rows.items():
        for number in row["reservations"]:
            if number not in reservations.rows:
                users.bad(key, f"lists reservation {number!r}, which is not in {reservations.path.name}")


def _desk(folder: Path) -> dict[str, Any]:
    path = _find(folder, "desk")
    if path is None:
        return DESK
    desk = _json(_text(path), path, 1)
    kinds = {name: type(value) for name, value in DESK.items()}
    if type(desk) is not dict or {name: type(value) for name, value in desk.items()} != kinds:
        _Place(path, 1).bad(f"a desk has exactly {', '.join(DESK)}, as an object, a text and two lists")
    return desk


def _rename(profile: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    if not names or "address" not in profile:
        return profile
    return {**profile, "address": {names.get(name, name): value for name, value in profile["address"].items()}}
