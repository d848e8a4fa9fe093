"""Our own airline and runs: repeatable, of the right size, and in the form that recorded runs have."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from aetheris.demo.airline import TOOLS
from aetheris.demo.generate import RUNS, Generated, generate, write
from ingest.tau_bench import read_runs, read_world


@pytest.fixture(scope="module")
def made() -> Generated:
    """The default airline and runs."""
    return generate()


def test_the_default_seed_gives_the_same_airline_everywhere(made: Generated) -> None:
    """Fixtures and documents are made from it: a change of any byte is a change on purpose."""
    runs = hashlib.sha256(json.dumps(made.runs).encode()).hexdigest()
    assert (made.world.digest, runs[:16]) == ("e389f441f10a9fb4", "4a185874a281eb98")


def test_another_seed_gives_another_airline(made: Generated) -> None:
    """Otherwise the seed would do nothing."""
    assert generate(1, 1).world.digest != made.world.digest


def test_the_runs_are_as_many_as_promised_and_call_every_tool(made: Generated) -> None:
    """The example stands in for the recorded runs: a hundred, with five to six calls each."""
    called = {message["name"] for run in made.runs for message in run["traj"] if message["role"] == "tool"}
    assert len(made.runs) == RUNS
    assert 520 <= made.calls <= 620
    assert called == set(TOOLS)


def test_some_runs_go_wrong(made: Generated) -> None:
    """An auditor needs material: agents that err, repeat themselves, and give up."""
    failed = [run for run in made.runs if run["reward"] == 0.0]
    answers = [message["content"] for run in failed for message in run["traj"] if message["role"] == "tool"]
    assert 20 <= len(failed) <= 60
    assert any(answer.startswith("Error: payment amount does not add up") for answer in answers)
    assert len({run["info"]["task"]["instruction"] for run in failed}) >= 4


def test_what_is_written_is_read_back_as_it_was_made(tmp_path: Path, made: Generated) -> None:
    """One form of files for recorded and generated runs, byte for byte the same when made again."""
    write(tmp_path / "one")
    write(tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["desk.json.gz", "flights.json.gz", "reservations.json.gz", "runs.jsonl.gz", "users.json.gz"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_world(tmp_path / "one").digest == made.world.digest
    assert [run.messages for run in read_runs(tmp_path / "one" / "runs.jsonl.gz")] == [run["traj"] for run in made.runs]
