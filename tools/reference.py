"""`python -m tools.reference`: write docs/reference from the code; with --check, say what is not as the code makes it.

Each page is a pure function of what ships: commands, keys, metrics, events,
routes, queries. Words that no code holds stand in `words.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from annotated_types import Ge, Gt, Le
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from aetheris.api.access import ROUTES
from aetheris.api.app import DECLARED
from aetheris.cli.main import COMMANDS, cli
from aetheris.domain.durations import seconds_of
from aetheris.domain.events import FORMAT, TERMINAL_TYPES, TYPES
from aetheris.forensics import library
from aetheris.runtime import metrics
from aetheris.runtime.config import SECRETS, Config
from tools.words import EVENTS, KEYS

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
HELP_WIDTH = 100
MADE = "<!-- Made by `make reference` from the code: change it there. -->\n"
UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def command_line() -> str:
    """Every command, as its --help tells it."""
    out = ["# Command line", "", _PREFACE_CLI, ""]
    settings = {**cli.context_settings, "terminal_width": HELP_WIDTH, "max_content_width": HELP_WIDTH}
    root = click.Context(cli, info_name="aetheris", **settings)
    out += ["```text", cli.get_help(root).rstrip(), "```", ""]
    for name in sorted(COMMANDS):
        command = cli.get_command(root, name)
        assert command is not None
        for words, context in _with_below(command, name, root):
            out += [f"## aetheris {words}", "", "```text", context.command.get_help(context).rstrip(), "```", ""]
    return "\n".join(out)


def _with_below(command: click.Command, name: str, above: click.Context) -> Iterator[tuple[str, click.Context]]:
    context = click.Context(command, info_name=name, parent=above)
    yield name, context
    if isinstance(command, click.Group):
        for below in sorted(command.commands):
            for words, found in _with_below(command.commands[below], below, context):
                yield f"{name} {words}", found


def configuration() -> str:
    """Every key: its type, its default, what it does."""
    env = {key: name for name, key in SECRETS.items()}
    sections: dict[str, list[list[str]]] = {}
    for key, field in every_key():
        about = KEYS[key] + (f"; `{env[key]}` in the environment wins" if key in env else "")
        section, _, name = key.rpartition(".")
        sections.setdefault(section, []).append([f"`{name}`", _kind(field), _default(field), about])
    out = ["# Configuration", "", _PREFACE_CONFIG, ""]
    for section, rows in sections.items():
        out += [f"## {section}", "", _table(["key", "value", "default", "what it does"], rows), ""]
    return "\n".join(out)


def every_key(model: type[BaseModel] = Config, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield each key of the configuration with its field; NAME stands for names of the user's own."""
    for name, field in model.model_fields.items():
        path = f"{above}.{name}" if above else name
        below, named = field.annotation, False
        if get_origin(below) is dict:
            below, named = get_args(below)[1], True
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from every_key(below, f"{path}.NAME" if named else path)
        else:
            yield path, field


def _kind(field: FieldInfo) -> str:
    kind, marks = _unwrapped(field.annotation, list(field.metadata))
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if kind is SecretStr:
        return "secret"
    if any(isinstance(m, BeforeValidator) and m.func is seconds_of for m in marks):
        return "duration" + _bounds(marks, _duration)
    words = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "file"}
    word = words.get(kind, "list of texts")
    return word + (_bounds(marks, lambda n: f"{n:,.0f}") if kind in (int, float) else "")


def _unwrapped(annotation: Any, marks: list[Any]) -> tuple[Any, list[Any]]:
    """Return the bare type of an annotation, and all that is said of it."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        for mark in more:
            marks += mark.metadata if isinstance(mark, FieldInfo) else [mark]
        return _unwrapped(inner, marks)
    if get_origin(annotation) in (Union, UnionType):
        first = next(a for a in get_args(annotation) if a is not type(None))
        return _unwrapped(first, marks)
    return annotation, marks


def _bounds(marks: list[Any], shown: Callable[[float], str]) -> str:
    least = [f"from {shown(m.ge)}" for m in marks if isinstance(m, Ge)]
    least += ["above 0" for m in marks if isinstance(m, Gt)]
    most = [f"to {shown(m.le)}" for m in marks if isinstance(m, Le)]
    return ", " + " ".join(least + most) if least or most else ""


def _default(field: FieldInfo) -> str:
    kind, marks = _unwrapped(field.annotation, list(field.metadata))
    if field.is_required():
        return "(required)"
    value = field.default
    if value is None:
        return ""
    if any(isinstance(m, BeforeValidator) and m.func is seconds_of for m in marks):
        return f"`{_duration(value)}`"
    return f"`{str(value).lower() if kind is bool else value}`"


def _duration(seconds: float) -> str:
    for unit, size in UNITS:
        if seconds >= size and seconds % size == 0 and (unit != "d" or seconds > 2 * size):
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def metric_names() -> str:
    """Every metric: its type, labels and meaning."""
    rows = []
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append([f"`{name}`", family.type, labels, family.documentation])
    table = _table(["metric", "type", "labels", "what it counts"], sorted(rows))
    buckets = [
        (n, getattr(metrics, n)) for n in ("DEFAULT_BUCKETS", "LATENCY_BUCKETS", "PARKED_BUCKETS", "WAIT_BUCKETS")
    ]
    listed = "\n".join(f"- {n.lower().replace('_', ' ')}: {', '.join(map(str, bounds))}" for n, bounds in buckets)
    return f"# Metrics\n\n{_PREFACE_METRICS}\n\n{table}\n\n## Buckets, in seconds\n\n{listed}\n"


def event_types() -> str:
    """Every event type: what it says, what stands in its line, what in its cells."""
    rows = []
    for name, fields in TYPES.items():
        what, cells = EVENTS[name]
        data = ", ".join(f"`{field}` {kind.__name__}" for field, kind in fields.items())
        rows.append([f"`{name}`", what, data, cells])
    table = _table(["type", "what happened", "data", "cells"], rows)
    last = ", ".join(f"`{name}`" for name in sorted(TERMINAL_TYPES))
    return f"# Events\n\n{_PREFACE_EVENTS.format(format=FORMAT, last=last)}\n\n{table}\n"


def api_routes() -> str:
    """Every route: what lets in, what it does."""
    assert DECLARED
    rows = []
    for r in sorted(ROUTES, key=lambda r: (r.path, r.method)):
        needs = "(none)" if r.access.is_open else " or ".join(f"`{n}`" for n in r.access.needs)
        about = " ".join((r.endpoint.__doc__ or "").split("\n\n")[0].split())
        rows.append([r.method, f"`{r.path}`", needs, about])
    table = _table(["", "path", "permission", "what it does"], rows)
    return f"# API\n\n{_PREFACE_API}\n\n{table}\n"


def queries() -> str:
    """Every named query: what it holds or asks, and its contract."""
    out = ["# Queries", "", _PREFACE_QUERIES, ""]
    for query in library.library().values():
        out += [f"## {query.name}", "", f"{query.title[0].upper()}{query.title[1:]}.", ""]
        out += [f"- {label}: {_escaped(query.notes[label])}" for label in _LABELS if label in query.notes]
        out.append("")
    return "\n".join(out)


_LABELS = ("violation", "binds", "reads", "columns", "blind to")

PAGES: dict[str, Callable[[], str]] = {
    "api": api_routes,
    "cli": command_line,
    "configuration": configuration,
    "events": event_types,
    "metrics": metric_names,
    "queries": queries,
}

_PREFACE_CLI = """`aetheris COMMAND --help` says the same. With `--json` a command prints one JSON document.

Exit codes: 0 done; 1 a check or verification failed, or something broke; 2 the input can't be used; 3 (`verify`)
self-consistent, but by no key that you gave; 130 interrupted. An error is one line on standard error: what, where,
what to do."""
_PREFACE_CONFIG = """`aetheris.yaml` is found by `--config`, else `CONFIG_PATH`, else in the current folder. `aetheris
config check` finds what is wrong with file and line; `aetheris config show` prints what is in force. NAME is a tool,
a provider or a model of your own; `_default` stands for every tool or provider without an entry. A duration is a
number of seconds or `30s`, `15m`, `4h`, `2d`, `1h30m`. An empty default means: not set."""
_PREFACE_METRICS = """Served by workers on `monitoring.prometheus.port`; the API's own figures by `serve` too. Labels
are bounded: tenants, agents, tools and providers, never jobs."""
_PREFACE_EVENTS = """One event is one line of canonical JSON (RFC 8785, integers only) with `at` (microseconds UTC),
`by`, `cells` (name to commitment), `data`, `epoch`, `prev`, `seq`, `step`, `type` and `v`. Its leaf is SHA-256(0x00
and the line); `prev` is the predecessor's leaf. The format is `{format}`. What may be sensitive is a cell beside the
line. After {last} nothing follows. More fields than these may stand in `data`; readers ignore what they don't know."""
_PREFACE_API = """A token says tenant and role ([how](../api.md)). `/api/openapi.json` describes bodies and answers,
with examples."""
_PREFACE_QUERIES = """`aetheris query NAME -p parameter=value` runs one over a lake or an evidence zip, `aetheris
check` all that have violations: their rows are what is wrong, none is a pass. In a notebook: `lake.query(NAME,
parameter=value)`."""


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def made() -> dict[Path, str]:
    """Return each page's place and text."""
    return {FOLDER / f"{name}.md": f"{MADE}{page().rstrip()}\n" for name, page in PAGES.items()}


def main() -> int:
    """Write the pages, or with --check name those that are not as the code makes them."""
    stale = [path for path, text in made().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path}: not what the code makes; run `make reference`", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(made()[path])
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
