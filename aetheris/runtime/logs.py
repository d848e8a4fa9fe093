"""Logs of processes that stay: words on a terminal, one JSON object a line elsewhere.

Every line names what it is about: tenant, job, epoch, step and tool come by
context variables, bound where a job is taken in hand and a call begins, so a
tool's own logging through the standard library carries them too; the trace and
span come from the span that it runs in.

Nothing that belongs into a cell is logged: what a tool, an input or a model
said is never part of a message of ours. And whatever is logged, by whomever,
is searched for the secrets that this process was given, which are masked.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, TextIO

import orjson
import structlog
from opentelemetry import trace
from structlog.contextvars import bind_contextvars, merge_contextvars
from structlog.typing import EventDict, WrappedLogger

#: Shorter ones are no secrets, and would mask words.
SECRET_LENGTH = 6
MASK = "***"
#: Libraries whose everyday talk is not an operator's: a request's URL, a connection's retry.
QUIET = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "psycopg": logging.ERROR,
    "psycopg.pool": logging.ERROR,
    "pyiceberg": logging.WARNING,  # a line for each table of each round
}

bound = bind_contextvars


def configure(
    resource: Mapping[str, str], secrets: Iterable[str] = (), *, stream: TextIO | None = None, level: int = logging.INFO
) -> None:
    """Send all logging of this process to `stream` (standard error), in the form that fits it.

    `secrets` never appear in it. Replaces what was configured before.
    """
    target = sys.stderr if stream is None else stream
    masked = sorted({s for s in secrets if len(s) >= SECRET_LENGTH}, key=len, reverse=True)
    terminal = target.isatty()
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
                _trace_ids,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _Render({} if terminal else resource, masked),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)


def _trace_ids(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"], event["span_id"] = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    return event


class _Render:
    """The last processor: one line of text; with `resource` as JSON, without for people."""

    def __init__(self, resource: Mapping[str, str], secrets: list[str]) -> None:
        self._resource, self._secrets = resource, secrets

    def __call__(self, logger: WrappedLogger, method: str, event: MutableMapping[str, Any]) -> str:
        plain = {key: _text(value) for key, value in event.items() if not key.startswith("_")}
        for secret in self._secrets:
            plain = {k: v.replace(secret, MASK) if isinstance(v, str) else v for k, v in plain.items()}
        if self._resource:
            return orjson.dumps({**self._resource, **plain}).decode()
        at, level, said = str(plain.pop("timestamp", ""))[:19], plain.pop("level", ""), plain.pop("event", "")
        exception = plain.pop("exception", "")
        plain.pop("logger", None)
        plain.pop("span_id", None)
        short = {k: str(v)[:8] if k in ("job", "trace_id") else v for k, v in sorted(plain.items(), key=_place)}
        about = " ".join(f"{k}={v}" for k, v in short.items())
        return f"{at} {str(level).upper():<7} {said}{f'  [{about}]' if about else ''}" + (
            f"\n{exception}" if exception else ""
        )


def _text(value: Any) -> Any:
    if isinstance(value, str):
        # Half a surrogate pair can't be written.
        return value.encode("utf-8", "backslashreplace").decode()
    return value if isinstance(value, int | float | bool) or value is None else str(value)


#: What a line is about, in the order in which people look for it; anything else after these.
_ORDER = ("tenant", "job", "step", "epoch", "agent")


def _place(item: tuple[str, Any]) -> tuple[int, str]:
    return (_ORDER.index(item[0]) if item[0] in _ORDER else len(_ORDER), item[0])
