"""The group of commands, and the one place where an error becomes a line and an exit code.

Exit codes: 0 done; 1 a check or verification failed, or something broke; 2 the
input can't be used; 3 (verify) self-consistent, but by no key that you gave;
130 interrupted.
"""

from __future__ import annotations

import ast
import errno
import os
import sys
import traceback
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import click

from aetheris import __version__
from aetheris.cli.allocators import for_a_long_life
from aetheris.cli.screen import Screen, printable
from aetheris.domain.errors import AetherisError, Refused

#: command -> where it lives. Loaded when used: `aetheris verify` needs no database driver.
COMMANDS = {
    "init": "server",
    "up": "server",
    "down": "server",
    "doctor": "doctor",
    "config": "config",
    "demo": "demo",
    "worker": "worker",
    "serve": "serve",
    "token": "token",
    "submit": "submit",
    "jobs": "jobs",
    "trace": "trace",
    "replay": "replay",
    "snapshot": "snapshot",
    "signal": "operate",
    "approve": "operate",
    "cancel": "operate",
    "pause": "operate",
    "resume": "operate",
    "resolve": "operate",
    "retry": "operate",
    "audit": "audit",
    "mirror": "lake",
    "check": "lake",
    "query": "lake",
    "compact": "keep",
    "seal": "keep",
    "hold": "keep",
    "gc": "keep",
    "erase": "keep",
    "keys": "keys",
    "export": "evidence",
    "verify": "evidence",
}

#: They read much, now and then, and rest.
LONG_LIVED = frozenset({"mirror"})


class Listing(click.Group):
    """A group that lists its commands by the whole first sentence of each; click's own cuts it at the line's end."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list, long sentences wrapped."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.sentence_of(ctx, name)) for name in self.list_commands(ctx)])

    def sentence_of(self, ctx: click.Context, name: str) -> str:
        """Return the first sentence of a command's help."""
        command = self.get_command(ctx, name)
        return "" if command is None else command.get_short_help_str(1_000)


class _Commands(Listing):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def sentence_of(self, ctx: click.Context, name: str) -> str:
        """Return it as read from the source: to import them all for their docstrings takes seconds."""
        source = Path(__file__).with_name(f"{COMMANDS[name]}.py").read_text("utf-8")
        said = next(
            ast.get_docstring(found)
            for found in ast.parse(source).body
            if isinstance(found, ast.FunctionDef) and found.name == name
        )
        return click.Command(name, help=said).get_short_help_str(1_000)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        home = COMMANDS.get(name)
        if home is None:
            return None
        if name in LONG_LIVED:
            for_a_long_life()
        command: click.Command = getattr(import_module(f"aetheris.cli.{home}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # click suggests from among the commands that are loaded, and here none is.
        if args[0] not in COMMANDS and (near := get_close_matches(args[0], COMMANDS, 1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--tenant", envvar="AETHERIS_TENANT_ID", default="default", show_default=True, help="Speak for this tenant."
)
@click.option(
    "--home",
    envvar="AETHERIS_HOME",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the embedded server and the lake are.  [default: .aetheris]",
)
@click.option(
    "--config",
    "config_path",
    envvar="CONFIG_PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration.  [default: aetheris.yaml, if it is here]",
)
@click.version_option(__version__, message="aetheris %(version)s")
@click.pass_context
def cli(ctx: click.Context, tenant: str, home: Path | None, config_path: Path | None) -> None:
    """Durable agent jobs on PostgreSQL, with a log that an auditor can check.

    Without AETHERIS_DSN an embedded PostgreSQL is used; there is nothing to set up.

    \b
    Begin with:  aetheris demo
    """
    if home is not None:
        os.environ["AETHERIS_HOME"] = str(home)
    if config_path is not None:
        if ctx.get_parameter_source("config_path") is click.core.ParameterSource.COMMANDLINE:
            _readable(config_path)
        os.environ["CONFIG_PATH"] = str(config_path)
    ctx.obj = {"tenant": tenant}


def _readable(path: Path) -> None:
    # Here, because whoever reads it later sees CONFIG_PATH alone.
    try:
        path.open("rb").close()
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or str(error)).lower()}; name a file with --config") from None


def main() -> NoReturn:
    """Run the command line. No traceback reaches a user unless AETHERIS_DEBUG is set."""
    _streams()
    try:
        code = cli.main(standalone_mode=False)
        _leave(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        _say("interrupted; what was committed stays, nothing is half done")
        _leave(130)
    except KeyboardInterrupt:
        _say("interrupted; what was committed stays, nothing is half done")
        _leave(130)
    except click.exceptions.NoArgsIsHelpError as error:
        # A group without a command: its message is the help itself, which joined into one line nobody can read.
        click.echo(error.format_message(), err=True)
        _leave(2)
    except click.ClickException as error:
        where = f" ({error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        _say(f"{error.format_message()}{where}")
        _leave(2)
    except AetherisError as error:
        _debug()
        _say(str(error))
        _leave(error.exit_code)
    except SystemExit as left:
        # click catches it first where whoever read the output has closed it (`| head`), and would leave with 1.
        _leave(0 if isinstance(left.__context__, BrokenPipeError) else left.code if isinstance(left.code, int) else 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(0)
    except OSError as error:
        _debug()
        _say(_of_the_system(error))
        _leave(1 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else 2)
    except UnicodeEncodeError as error:
        # What was typed and isn't UTF-8 is surrogates here, which neither a database nor JSON takes.
        _debug()
        _say(f"{error.object[:60]!r} is not UTF-8 text; write it in UTF-8")
        _leave(2)
    except Exception as error:  # noqa: BLE001  the last resort: a bug is one line too, and says how to see more
        _debug()
        _say(f"a bug in Aetheris: {type(error).__name__}: {error} (AETHERIS_DEBUG=1 shows where; nothing was repaired)")
        _leave(1)


def _streams() -> None:
    """Let nothing that is printed fail by where it goes: a closed stream, or one that knows fewer letters."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who called; the first file that is opened takes its number
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _of_the_system(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    advice = {
        errno.ENOSPC: "; free some space and run it again, nothing was lost",
        errno.EROFS: "; choose a folder that can be written",
        errno.EACCES: "; choose a place you may use",
        errno.ENOENT: "; check the path",
    }
    return f"{place}{(error.strerror or str(error)).lower()}{advice.get(error.errno or 0, '')}"


def _say(message: str) -> None:
    print(f"aetheris: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201


def _debug() -> None:
    if os.environ.get("AETHERIS_DEBUG"):
        traceback.print_exc()


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    raise SystemExit(code)


def json_option(command: Any) -> Any:
    """Give a command `--json`, and hand it a Screen that knows."""

    def made(ctx: click.Context, _: click.Parameter, value: bool) -> Screen:
        return Screen(as_json=value)

    return click.option(
        "--json", "screen", is_flag=True, callback=made, help="Print one JSON document instead of text."
    )(command)
