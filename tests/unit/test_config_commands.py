"""`aetheris config`: what people see."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from aetheris.cli.main import COMMANDS, Listing, cli, main
from aetheris.runtime.config import Config
from aetheris.store.errors import Unreachable

SOURCES = Path(__file__).parents[2] / "aetheris"


def aetheris(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would, in a folder with nothing in it but what the test put there."""
    env = {k: v for k, v in os.environ.items() if k not in ("CONFIG_PATH", "AETHERIS_DSN")}
    env |= {"AETHERIS_JWT_KEY": "topsecret"}
    command = [sys.executable, "-m", "aetheris", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_check_names_the_line_and_leaves_with_two(tmp_path: Path) -> None:
    """A deployment's script stops here, not at the first job."""
    (tmp_path / "aetheris.yaml").write_text("worker:\n  concurency: 4\n")
    done = aetheris(tmp_path, "config", "check")
    assert done.returncode == 2
    assert done.stderr == "aetheris: aetheris.yaml:2: worker.concurency: no such key; did you mean concurrency?\n"


def test_a_reader_that_has_enough_is_no_failure(tmp_path: Path) -> None:
    """`aetheris config show | head -1` in a script that heeds pipes' exit codes: 1 would say that something broke."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "aetheris", "config", "show"]
    done = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "\nCommands:\n  init      Write a starter folder DIR"),
        (["config"], "\nCommands:\n  check  "),
        (["chek"], "aetheris: No such command 'chek'. Did you mean 'check'? ("),
    ],
    ids=["nothing", "half a command", "a misspelled one"],
)
def test_who_names_no_command_is_shown_them(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The help as it is, on its own lines: joined into one, as other mistakes are told, nobody can read it."""
    monkeypatch.setattr(sys, "argv", ["aetheris", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_the_help_lists_commands_without_loading_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together take seconds; what is read from their source must be what they say."""
    context = click.Context(cli)
    assert isinstance(cli, Listing)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert cli.sentence_of(context, name) == command.get_short_help_str(1_000) != ""
    monkeypatch.setattr(type(cli), "get_command", lambda *_: pytest.fail("a command was loaded"))
    assert "  init      Write a starter folder DIR" in CliRunner().invoke(cli, ["--help"]).output


def test_every_key_is_read_by_something() -> None:
    """A key that is taken and does nothing would be a lie."""
    code = "\n".join(p.read_text() for p in SOURCES.rglob("*.py"))
    unread = [path for path, name in leaves(Config, "") if not re.search(rf"\.{name}\b", code)]
    assert unread == []


def leaves(section: type[BaseModel], above: str) -> Iterator[tuple[str, str]]:
    """Yield (path, name) of each key that holds a value."""
    for name, field in section.model_fields.items():
        kinds = [k for k in (field.annotation, *get_args(field.annotation)) if isinstance(k, type)]
        below = [k for k in kinds if issubclass(k, BaseModel)]
        if below:
            yield from leaves(below[0], f"{above}{name}.")
        else:
            yield f"{above}{name}", name


def test_show_says_what_is_in_force_and_no_secret(tmp_path: Path) -> None:
    """Defaults too: what is not written is in force as well."""
    (tmp_path / "aetheris.yaml").write_text("rate_limits: {tools: {pay: {qps: 2.5}}}\n")
    done = aetheris(tmp_path, "config", "show")
    assert done.returncode == 0
    assert "rate_limits.tools.pay.qps: 2.5\n" in done.stdout
    assert "worker.concurrency: 100\n" in done.stdout
    assert 'api.middleware.jwt_key: "(set, not shown)"' in done.stdout
    assert "topsecret" not in done.stdout + done.stderr


@pytest.mark.parametrize("stream", [None, "ascii"], ids=["closed", "of fewer letters"])
def test_where_output_goes_is_no_failure(stream: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that whoever called has closed, and a terminal that doesn't know every letter."""
    shown = BytesIO()
    monkeypatch.setattr(sys, "stdout", stream and TextIOWrapper(shown, stream))
    monkeypatch.setattr(sys, "argv", ["aetheris", "config", "show"])
    monkeypatch.setenv("CONFIG_PATH", str(tmp_path / "aetheris.yaml"))
    (tmp_path / "aetheris.yaml").write_text("models: {desk: {provider: p, base_url: 'http://x', model: é}}\n")
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert stream is None or b'models.desk.model: "\\xe9"\n' in shown.getvalue()
    sys.stdout.close()


@pytest.mark.parametrize("words", [("init",), ("keys", "rotate", "job_id"), ("jobs",), ("doctor",)], ids="-".join)
def test_a_database_is_the_one_that_the_file_names(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a worker: no embedded one is made beside it, and a file that says nothing sound names none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AETHERIS_DSN", raising=False)
    monkeypatch.setenv("CONFIG_PATH", "other.yaml")  # so that what --config sets there goes again
    monkeypatch.setenv("AETHERIS_HOME", str(tmp_path / "home"))
    (tmp_path / "here.yaml").write_text("jobstore: {dsn: 'postgresql://nobody@127.0.0.1:1/none'}\n")
    (tmp_path / "broken.yaml").write_text("jobstore: {dns: x}\n")
    done = CliRunner().invoke(cli, ["--config", "here.yaml", *words])
    told = done.output if words == ("doctor",) else str(done.exception)
    assert "can't reach PostgreSQL at 127.0.0.1:1" in told
    assert words == ("doctor",) or isinstance(done.exception, Unreachable)
    done = CliRunner().invoke(cli, ["--config", "broken.yaml", *words])
    assert "broken.yaml:1: jobstore.dns: no such key" in done.output + str(done.exception)
    assert not (tmp_path / "home").exists()
