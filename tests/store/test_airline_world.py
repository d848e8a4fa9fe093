"""The airline over real tables: worlds apart, changes once, and recordings reproduced byte for byte."""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

import aetheris as ae
from aetheris.demo import desk, rules
from aetheris.demo.airline import TOOLS
from aetheris.demo.generate import generate
from aetheris.demo.player import Played, play
from aetheris.demo.reference import ReferenceDesk
from aetheris.domain.errors import Refused, Unusable
from aetheris.runtime.system import AsyncSystem
from aetheris.runtime.tools import Call
from aetheris.store.airline import Airline, Wanted
from aetheris.store.airline_data import DataSet, load
from aetheris.store.database import Database
from ingest.tau_bench import Run, read_runs, read_world

TAU = Path(os.environ.get("AETHERIS_TAU_DATA") or Path(__file__).parents[2].parent / "shared" / "data" / "tau_airline")
MADE = generate()
RUNS = [Run(run["task_id"], run["trial"], run["reward"], "", run["traj"]) for run in MADE.runs]

#: Two users who have what the tests spend.
CARD_HOLDER = next(user for user, profile in MADE.world.users.items() if "gift_card" in str(profile["payment_methods"]))


def _at_desk(database: Database, act: Callable[[Airline, str], Awaitable[None]], data: DataSet = MADE.world) -> None:
    async def run() -> None:
        name = await load(database, data)
        async with desk.at(database) as airline:
            await act(airline, name)

    asyncio.run(run())


async def _ask(tool: str, world: str, key: str = "k", **arguments: Any) -> str:
    made = TOOLS[tool]
    first = (Call("t", "j", 1, 1, tool, key),) if made.takes_call else ()
    where = {} if tool in ("calculate", "think") else {"world": world}
    answer: str = await made(*first, **arguments, **where)
    return answer


def _played(database: Database, runs: list[Run], data: DataSet) -> Played:
    async def run() -> Played:
        async with AsyncSystem(database.admin_dsn) as system:
            return await play(system, runs, data)

    return asyncio.run(run())


def test_all_generated_runs_are_reproduced_by_the_tools_over_tables(database: Database) -> None:
    """The tables, SQL and rules against an implementation over dicts that shares nothing with them."""
    played = _played(database, RUNS, MADE.world)
    assert played.mismatches == []
    assert played.reproduced == played.calls == MADE.calls


def test_runs_in_a_row_and_side_by_side_begin_from_the_same_world(database: Database) -> None:
    """A run's bookings are its own: played again and beside itself, it gets the same answers."""
    changing = [run for run in RUNS if "book_reservation" in str(run.messages)][:4]
    for _ in range(2):
        played = _played(database, changing * 3, MADE.world)
        assert (played.mismatches, played.reproduced) == ([], played.calls)


def test_a_result_that_differs_is_counted_with_its_cause(database: Database) -> None:
    """A share below all of them must say why."""
    run = copy.deepcopy(next(run for run in RUNS if "get_user_details" in str(run.messages)))
    told = next(message for message in run.messages if message.get("name") == "get_user_details")
    told["content"] = told["content"].replace('"zip"', '"postcode"')
    unknown = {"id": "u", "type": "function", "function": {"name": "sing", "arguments": "{}"}}
    bad = {"id": "b", "type": "function", "function": {"name": "get_user_details", "arguments": '{"user": 1}'}}
    run.messages.extend(
        [
            {"role": "assistant", "content": None, "tool_calls": [unknown, bad]},
            {"role": "tool", "tool_call_id": "u", "name": "sing", "content": "la"},
            {"role": "tool", "tool_call_id": "b", "name": "get_user_details", "content": "?"},
        ]
    )
    played = _played(database, [run], MADE.world)
    assert played.reproduced == played.calls - 3
    causes = [mismatch.cause for mismatch in played.mismatches]
    assert causes[0] == "address: field 'zip' where 'postcode' is recorded"
    assert causes[1] == "there is no tool 'sing'"
    assert causes[2].startswith("tool get_user_details: user_id: Field required")


def test_two_worlds_do_not_see_each_other_and_leave_the_data_as_it_was(database: Database) -> None:
    """Copy on write: opening a world costs nothing, and nothing leaks between runs."""

    async def act(airline: Airline, name: str) -> None:
        number = next(iter(MADE.world.reservations))
        before = await _ask("get_reservation_details", f"{name}/b", reservation_id=number)
        done = json.loads(await _ask("cancel_reservation", f"{name}/a", reservation_id=number))
        assert done["status"] == "cancelled"
        assert json.loads(await _ask("get_reservation_details", f"{name}/a", reservation_id=number)) == done
        assert await _ask("get_reservation_details", f"{name}/b", reservation_id=number) == before
        await _ask("send_certificate", f"{name}/a", user_id=CARD_HOLDER, amount=70)
        assert "certificate_7000001" not in await _ask("get_user_details", f"{name}/b", user_id=CARD_HOLDER)

    _at_desk(database, act)


def test_a_change_that_comes_twice_under_one_key_is_made_once(database: Database) -> None:
    """A worker that died after the effect and before the record may be asked again."""

    async def act(airline: Airline, name: str) -> None:
        first = await _ask("send_certificate", f"{name}/w", "key-1", user_id=CARD_HOLDER, amount=70)
        again = await _ask("send_certificate", f"{name}/w", "key-1", user_id=CARD_HOLDER, amount=70)
        other = await _ask("send_certificate", f"{name}/w", "key-2", user_id=CARD_HOLDER, amount=70)
        assert first == again != other
        profile = await _ask("get_user_details", f"{name}/w", user_id=CARD_HOLDER)
        assert profile.count('"amount": 70, "id": "certificate_700000') == 2

    _at_desk(database, act)


def test_two_changes_at_once_in_one_world_can_not_spend_a_card_twice(database: Database) -> None:
    """`gather` in an agent makes calls side by side; money is counted as if they came in turn."""
    number, booking = next(
        (number, row) for number, row in MADE.world.reservations.items() if row["user_id"] == CARD_HOLDER
    )
    methods = MADE.world.users[CARD_HOLDER]["payment_methods"].values()
    gift = next(method for method in methods if method["source"] == "gift_card")
    bags = booking["nonfree_baggages"] + gift["amount"] // 50  # paid from the card once, and not twice

    async def act(airline: Airline, name: str) -> None:
        async def add(key: str, more: int) -> str:
            return await _ask(
                "update_reservation_baggages", f"{name}/w", key, reservation_id=number, total_baggages=9,
                nonfree_baggages=more, payment_id=gift["id"],
            )  # fmt: skip

        async def bags_of(key: str) -> str:
            return await airline.change(f"{name}/w", key, *rules.change_baggages(number, 9, bags, gift["id"]))

        answers = await asyncio.gather(*(bags_of(f"k{i}") for i in range(6)))
        assert len(set(answers)) == 1, "the first pays, the others find it paid"
        assert await add("more", 2 * bags + 2) == "Error: gift card balance is not enough"
        profile = json.loads(await _ask("get_user_details", f"{name}/w", user_id=CARD_HOLDER))
        paid = 50 * (bags - booking["nonfree_baggages"])
        assert profile["payment_methods"][gift["id"]]["amount"] == gift["amount"] - paid

    _at_desk(database, act)


def test_a_decision_that_fails_leaves_nothing_behind(database: Database) -> None:
    """All of a change or none of it."""

    async def act(airline: Airline, name: str) -> None:
        def fail(_: object) -> Any:
            raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            await airline.change(f"{name}/w", "key", Wanted(user_id=CARD_HOLDER), fail)
        assert (await airline.change(f"{name}/w", "key", *rules.hand_over("now it works"))) == "Transfer successful"

    _at_desk(database, act)


def test_a_payment_method_that_was_used_up_and_comes_back_stands_last(database: Database) -> None:
    """The order of a profile is part of what was recorded."""
    profile = MADE.world.users[CARD_HOLDER]
    card = next(iter(profile["payment_methods"]))
    flight, day, shown = next(
        (number, day, shown)
        for number, found in MADE.world.flights.items()
        for day, shown in found["dates"].items()
        if shown["status"] == "available" and shown["available_seats"]["economy"] and shown["prices"]["economy"] > 50
    )
    certificate = "certificate_7000001"
    steps: list[tuple[str, dict[str, Any]]] = [
        ("send_certificate", {"user_id": CARD_HOLDER, "amount": 50}),
        ("send_certificate", {"user_id": CARD_HOLDER, "amount": 60}),
        (
            "book_reservation",
            {
                "user_id": CARD_HOLDER, "origin": "OSL", "destination": "LIS", "flight_type": "one_way",
                "cabin": "economy", "flights": [{"date": day, "flight_number": flight}],
                "passengers": [profile["name"]], "total_baggages": 0, "nonfree_baggages": 0, "insurance": "no",
                "payment_methods": [
                    {"payment_id": certificate, "amount": 50},
                    {"payment_id": card, "amount": shown["prices"]["economy"] - 50},
                ],
            },
        ),
        ("send_certificate", {"user_id": CARD_HOLDER, "amount": 80}),
        ("get_user_details", {"user_id": CARD_HOLDER}),
    ]  # fmt: skip

    async def act(airline: Airline, name: str) -> None:
        reference = ReferenceDesk(MADE.world)
        for at, (tool, arguments) in enumerate(steps):
            assert await _ask(tool, f"{name}/w", f"k{at}", **arguments) == reference.ask(tool, arguments)
        last = json.loads(reference.ask("get_user_details", {"user_id": CARD_HOLDER}))
        assert list(last["payment_methods"])[-2:] == ["certificate_7000002", certificate]

    _at_desk(database, act)


def test_a_world_of_no_loaded_data_set_is_refused(database: Database) -> None:
    """A mistyped world must not look like an airline without flights."""

    async def act(airline: Airline, name: str) -> None:
        with pytest.raises(Refused, match="is not loaded"):
            await _ask("list_all_airports", "0000/w")
        with pytest.raises(Refused, match="is not loaded"):
            await _ask("cancel_reservation", "0000/w", reservation_id="X")
        with pytest.raises(Refused, match="is not DATASET/NAME"):
            await _ask("list_all_airports", name)

    _at_desk(database, act)


def test_a_worker_by_itself_finds_the_airline_of_its_store(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """`aetheris worker aetheris.demo.airline:airline` has only the environment to go by."""
    monkeypatch.setenv("AETHERIS_DSN", database.admin_dsn)

    async def run() -> str:
        name = await load(database, MADE.world)
        try:
            answers = await asyncio.gather(*(_ask("list_all_airports", f"{name}/w") for _ in range(20)))
        finally:
            await desk.leave()
        assert len(set(answers)) == 1
        return answers[0]

    assert json.loads(asyncio.run(run())) == MADE.world.desk["airports"]
    monkeypatch.setenv("AETHERIS_DSN", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unusable, match="can't reach PostgreSQL"):
        asyncio.run(_ask("list_all_airports", "x/w"))


def test_a_system_that_closes_takes_the_desk_along(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first call opened belongs to nobody else: left open, it may keep the process from ending."""
    monkeypatch.setenv("AETHERIS_DSN", database.admin_dsn)

    async def run() -> set[str]:
        name = await load(database, MADE.world)
        before = asyncio.all_tasks()
        async with ae.AsyncSystem(database=database):
            await _ask("list_all_airports", f"{name}/w")
        return {task.get_name() for task in asyncio.all_tasks() - before}

    assert asyncio.run(run()) == set()


def test_the_airline_has_a_role_of_its_own_that_sees_nothing_of_aetheris(database: Database) -> None:
    """Tools are the outside world: a flaw in one must not reach the log."""
    asyncio.run(load(database, MADE.world))
    with psycopg.connect(database.admin_dsn, options="-c role=aetheris_airline", autocommit=True) as link:
        assert link.execute("SELECT count(*) FROM airline.flights").fetchone() == (len(MADE.world.flights),)
        for statement in (
            "SELECT * FROM aetheris.job_events",
            "DELETE FROM airline.flights",
            "CREATE TABLE airline.x ()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                link.execute(statement)


@pytest.mark.skipif(not TAU.is_dir(), reason=f"no recorded runs at {TAU}; name their folder in AETHERIS_TAU_DATA")
@pytest.mark.parametrize(
    ("renamed", "reproduced", "causes"),
    [
        ({}, 513, {"address: field 'state' where 'province' is recorded": 59}),
        ({"state": "province"}, 572, {}),
    ],
    ids=["with the folder as it is", "with the name that the field had when they were recorded"],
)
def test_the_recorded_runs_are_reproduced(
    database: Database, renamed: dict[str, str], reproduced: int, causes: dict[str, int]
) -> None:
    """Real material: what the tools returned then, they return now; the one difference is the data's own."""
    runs, world = read_runs(TAU / "runs.jsonl.gz"), read_world(TAU, renamed=renamed)
    played = _played(database, runs, world)
    assert (played.calls, played.reproduced, played.causes) == (572, reproduced, causes)
