"""Reading recorded runs and their world: strict, and every mistake with file and line."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aetheris.domain.errors import Unusable
from ingest.tau_bench import DESK, read_runs, read_world

CALL = {"id": "c1", "type": "function", "function": {"name": "think", "arguments": '{"thought": "x"}'}}
RUN: dict[str, Any] = {
    "task_id": 1,
    "trial": 0,
    "reward": 1.0,
    "info": {"task": {"instruction": "Book a flight."}},
    "traj": [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "think", "content": ""},
    ],
}
DAY = {
    "status": "available",
    "available_seats": dict.fromkeys(("basic_economy", "economy", "business"), 1),
    "prices": dict.fromkeys(("basic_economy", "economy", "business"), 90),
}
WORLD: dict[str, Any] = {
    "users": {
        "ana": {
            "address": {"state": "x"},
            "payment_methods": {"g": {"source": "gift_card", "amount": 5, "id": "g"}},
            "reservations": ["R1"],
        }
    },
    "flights": {
        "A1": {
            "flight_number": "A1",
            "origin": "OSL",
            "destination": "LIS",
            "scheduled_departure_time_est": "10:00:00",
            "scheduled_arrival_time_est": "12:00:00",
            "dates": {"2026-03-11": DAY},
        }
    },
    "reservations": {
        "R1": {"reservation_id": "R1", "user_id": "ana", "flights": [], "passengers": [], "payment_history": []}
    },
}


def _runs(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(lines))
    return path


def _world(tmp_path: Path, world: dict[str, Any]) -> Path:
    for name, rows in world.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows, indent=1))
    return tmp_path


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_runs_are_read_plain_and_packed(tmp_path: Path, packed: bool) -> None:
    """What was recorded elsewhere arrives in both forms."""
    path = tmp_path / ("runs.jsonl.gz" if packed else "runs.jsonl")
    raw = (json.dumps(RUN) + "\n\n" + json.dumps({**RUN, "trial": 1}) + "\n").encode()
    path.write_bytes(gzip.compress(raw) if packed else raw)
    first, second = read_runs(path)
    assert (first.task_id, first.goal, first.reward, second.trial) == (1, "Book a flight.", 1.0, 1)
    assert first.messages == RUN["traj"]


def _drop_result(run: dict[str, Any]) -> None:
    run["traj"].pop()


def _text_arguments(run: dict[str, Any]) -> None:
    run["traj"][1]["tool_calls"][0]["function"]["arguments"] = "[1]"


def _other_name(run: dict[str, Any]) -> None:
    run["traj"][2]["name"] = "calculate"


def _interrupt(run: dict[str, Any]) -> None:
    run["traj"].insert(2, {"role": "user", "content": "wait"})


def _strange_role(run: dict[str, Any]) -> None:
    run["traj"][0]["role"] = "narrator"


def _no_task(run: dict[str, Any]) -> None:
    del run["task_id"]


def _reward(run: dict[str, Any]) -> None:
    run["reward"] = "good"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_drop_result, "the last call, of think, has no result"),
        (_text_arguments, "message 2: the arguments of think are not the text of a JSON object"),
        (_other_name, "message 3: a result of no call before it"),
        (_interrupt, "message 3: the call of think before it has no result"),
        (_strange_role, "message 1 has no role"),
        (_no_task, "a run needs 'task_id' (a whole number)"),
        (_reward, "'reward' is not a number"),
    ],
)
def test_a_run_that_is_not_one_is_refused_with_its_line(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], said: str
) -> None:
    """A run misread would look like a tool that answers wrongly."""
    bad = copy.deepcopy(RUN)
    spoil(bad)
    path = _runs(tmp_path, json.dumps(RUN), json.dumps(bad))
    with pytest.raises(Unusable) as caught:
        read_runs(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"task_id": 1,', "not JSON at column 15"),
        ('{"task_id": 1, "task_id": 2}', "an object has 'task_id' twice"),
        ('{"reward": NaN}', "NaN is not JSON"),
        ("[]", "a run is a JSON object"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_not_json_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    """One clear line, never a traceback."""
    path = _runs(tmp_path, json.dumps(RUN), line)
    with pytest.raises(Unusable, match=f"{path.name}:2: ") as caught:
        read_runs(path)
    assert said in str(caught.value)


def test_files_that_can_not_be_read_are_refused(tmp_path: Path) -> None:
    """Absent, empty, cut, not text: each says which."""
    with pytest.raises(Unusable, match="can't be read"):
        read_runs(tmp_path / "none.jsonl")
    with pytest.raises(Unusable, match="holds no run"):
        read_runs(_runs(tmp_path, ""))
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(RUN).encode())[:-9])
    with pytest.raises(Unusable, match="not a whole gzip file"):
        read_runs(cut)
    (tmp_path / "latin.jsonl").write_bytes(b"{}\n\xe9")
    with pytest.raises(Unusable, match=r"latin\.jsonl:2: not UTF-8"):
        read_runs(tmp_path / "latin.jsonl")
    with pytest.raises(Unusable, match="needs users, flights, reservations"):
        read_world(tmp_path)


def test_a_world_is_read_whole_and_in_order(tmp_path: Path) -> None:
    """A folder without a desk is tau-bench's; one with a desk brings its own."""
    folder = _world(tmp_path, WORLD)
    assert read_world(folder).desk == DESK
    assert list(read_world(folder).users["ana"]) == ["address", "payment_methods", "reservations"]
    own = {"airports": {"OSL": "Oslo"}, "now": "2026-03-10T09:00:00", "reservation_ids": ["N"], "certificate_ids": [1]}
    assert read_world(_world(tmp_path, {"desk": own})).desk == own
    with pytest.raises(Unusable, match=r"desk\.json:1: a desk has exactly"):
        read_world(_world(tmp_path, {"desk": {**own, "now": 1}}))


def test_a_field_of_addresses_may_be_given_its_older_name(tmp_path: Path) -> None:
    """Runs recorded before a rename are reproduced by saying so, not by looking away."""
    folder = _world(tmp_path, WORLD)
    renamed = read_world(folder, renamed={"state": "province"})
    assert renamed.users["ana"]["address"] == {"province": "x"}
    assert renamed.digest != read_world(folder).digest


def _set(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(world: dict[str, Any]) -> None:
        for name in path[:-1]:
            world = world[name]
        world[path[-1]] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_set("users", "ana", "reservations", value=["R2"]), "users.json:2: ana: lists reservation 'R2'"),
        (_set("users", "ana", "payment_methods", value=[]), "users.json:2: ana: a user needs payment_methods"),
        (_set("users", "ana", "payment_methods", "g", value={"source": "gift_card"}), "payment method g has no amount"),
        (_set("reservations", "R1", "user_id", value="bo"), "reservations.json:2: R1: belongs to 'bo', who is not in"),
        (_set("reservations", "R1", "reservation_id", value="R9"), "reservations.json:2: R1: its reservation_id is"),
        (_set("reservations", "R1", "flights", value=["A1"]), "flights is not a list of objects"),
        (_set("flights", "A1", "origin", value=None), "flights.json:2: A1: origin is not text"),
        (_set("flights", "A1", "dates", "2026-03-11", "prices", value={"economy": 1}), "2026-03-11: prices is not"),
        (_set("flights", "A1", "dates", "2026-03-11", value={}), "2026-03-11 has no status"),
        (_set("flights", value=[]), "flights.json:1: not an object of objects"),
    ],
)
def test_a_world_that_does_not_hold_together_is_refused(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], said: str
) -> None:
    """Better now, with the place, than as a wrong answer in call 300."""
    world = copy.deepcopy(WORLD)
    spoil(world)
    with pytest.raises(Unusable) as caught:
        read_world(_world(tmp_path, world))
    assert said in str(caught.value)
