"""The lake's tables: columns, keys, and which columns may leave a trace in statistics.

Every table is append-only. Jobs and current invocations are no tables: a job's
agent, version and state are a view over `events`, its lease over
`lease_changes`, an invocation over `ledger`. What only the store's job row
holds (goal, wake-up time) says what is wanted next, not what happened.

Field ids are positions, from 1: a column is added at the end and never taken
away. `salt`, `body` and whatever else may hold content has no statistics,
neither Parquet's nor Iceberg's: a minimum is a value, and would outlive its
erasure in footers and manifests. Lines and leaves have none because bounds of
such values tell nothing and fill the footers.

`leaf` costs 32 of about 133 bytes per event, because it can't be compressed.
It stays: it is the store's own claim, names the very event that was edited,
and is the only thing that covers the last event of a job without a seal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import (
    BinaryType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

DAY_MICROSECONDS = 86_400_000_000
_TIME = pa.timestamp("us", "UTC")
_ARROW: dict[str, pa.DataType] = {
    "text": pa.string(),
    "bytes": pa.binary(),
    "long": pa.int64(),
    "int": pa.int32(),
    "time": _TIME,
}
_ICEBERG: dict[str, IcebergType] = {
    "text": StringType(),
    "bytes": BinaryType(),
    "long": LongType(),
    "int": IntegerType(),
    "time": TimestamptzType(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `bounded` ones have statistics, `repeated` ones a dictionary, `derived` ones come from the line."""

    name: str
    kind: str
    required: bool = True
    bounded: bool = False
    repeated: bool = False
    derived: bool = False


def _word(name: str) -> Column:
    return Column(name, "text", bounded=True, repeated=True)


def _number(name: str, kind: str = "long") -> Column:
    return Column(name, kind, bounded=True)


def _text(name: str, required: bool = True) -> Column:
    return Column(name, "text", required)


def _digest(name: str, required: bool = True) -> Column:
    return Column(name, "bytes", required)


def _time(name: str, required: bool = True) -> Column:
    return Column(name, "time", required, bounded=True)


def _derived(name: str, kind: str) -> Column:
    # Not required: a damaged line is mirrored as it stands, and has no type.
    return Column(name, kind, required=False, bounded=True, repeated=kind == "text", derived=True)


_JOB = (_word("tenant_id"), _word("job_id"))
_WRITTEN = (_number("xid"), _time("recorded_at"))


@dataclass(frozen=True)
class TableShape:
    """A table's columns in order and the columns that identify a row."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def source(self) -> tuple[str, ...]:
        """The columns that come from the store, in order."""
        return tuple(c.name for c in self.columns if not c.derived)

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, field ids included."""
        return pa.schema(
            pa.field(c.name, _ARROW[c.kind], not c.required, {"PARQUET:field_id": str(number)})
            for number, c in enumerate(self.columns, 1)
        )

    @cached_property
    def iceberg(self) -> Schema:
        """The Iceberg schema."""
        return Schema(
            *(NestedField(n, c.name, _ICEBERG[c.kind], required=c.required) for n, c in enumerate(self.columns, 1))
        )

    @cached_property
    def partitions(self) -> PartitionSpec:
        """Tenant, and day of `recorded_at`: the database's clock, so late rows never reach a closed day."""
        ids = {c.name: number for number, c in enumerate(self.columns, 1)}
        return PartitionSpec(
            PartitionField(ids["tenant_id"], 1000, IdentityTransform(), "tenant"),
            PartitionField(ids["recorded_at"], 1001, DayTransform(), "recorded_day"),
        )

    def batch(self, columns: Sequence[Sequence[Any]]) -> pa.RecordBatch:
        """Return rows given column by column, in the order of `source`, in the table's schema.

        Times are microseconds since 1970 in UTC.
        """
        given = dict(zip(self.source, columns, strict=True))
        if any(c.derived for c in self.columns):
            given |= _from_lines(given["line"], [c.name for c in self.columns if c.derived])
        arrays = [pa.array(given[c.name], _ARROW[c.kind]) for c in self.columns]
        return pa.RecordBatch.from_arrays(arrays, schema=self.arrow)


def _from_lines(lines: Sequence[str], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return what the lines say under these names, None where a damaged line doesn't say it rightly."""
    made: dict[str, list[Any]] = {name: [] for name in names}
    takers = [(*_IN_LINE[name], column.append) for name, column in made.items()]
    for line in lines:
        # No object outlives its line: 20,000 live dicts are what garbage collection costs most for.
        value = _value(line)
        for name, kind, take in takers:
            found: Any = value.get(name)
            take(found if type(found) is kind and (kind is str or -(2**63) <= found < 2**63) else None)
    return made


#: column -> (field of the line, its type). `at` is a keyword in DuckDB: nobody should have to quote a column.
_IN_LINE: dict[str, tuple[str, type[Any]]] = {
    "type": ("type", str),
    "happened_at": ("at", int),
    "step": ("step", int),
    "epoch": ("epoch", int),
}


def _value(line: str) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}


EVENTS = TableShape(
    "events",
    (
        *_JOB,
        _number("seq"),
        _derived("type", "text"),
        _derived("step", "long"),
        _derived("epoch", "long"),
        _derived("happened_at", "time"),
        _digest("leaf"),
        _text("line"),
        *_WRITTEN,
    ),
    ("tenant_id", "job_id", "seq"),
)
CELLS = TableShape(
    "cells",
    (*_JOB, _number("seq"), _word("name"), _digest("salt", False), _text("body", False), *_WRITTEN),
    ("tenant_id", "job_id", "seq", "name"),
)
LEDGER = TableShape(
    "ledger",
    (
        *_JOB,
        _number("seq"),
        _number("step"),
        _number("attempt", "int"),
        _word("tool_name"),
        _word("effect"),
        _word("status"),
        _number("epoch"),
        _digest("idempotency_key", False),
        _digest("args_hash", False),
        _digest("result_hash", False),
        _word("outcome"),
        *_WRITTEN,
    ),
    ("tenant_id", "job_id", "seq"),
)
LEASE_CHANGES = TableShape(
    "lease_changes",
    (*_JOB, _number("epoch"), _word("change"), _word("worker_id"), _time("lease_until", False), *_WRITTEN),
    ("tenant_id", "job_id", "epoch", "change"),
)
LIMIT_WAITS = TableShape(
    "limit_waits",
    (
        *_JOB,
        _number("step"),
        _number("attempt", "int"),
        _word("kind"),
        _word("name"),
        _time("asked_at"),
        _time("slot_at"),
        _time("started_at", False),
        _word("outcome"),
        *_WRITTEN,
    ),
    ("tenant_id", "job_id", "step", "attempt", "kind", "name", "asked_at"),
)
SNAPSHOTS = TableShape(
    "snapshots",
    (
        *_JOB,
        _number("seq"),
        _word("kind"),
        _number("version", "int"),
        _digest("leaf"),
        _digest("body"),
        _digest("mac"),
        *_WRITTEN,
    ),
    ("tenant_id", "job_id", "seq"),
)
SEALS = TableShape(
    "seals",
    (*_JOB, _text("seal"), _text("dsse", False), _text("tlog_proof", False), _digest("timestamp", False), *_WRITTEN),
    ("tenant_id", "job_id"),
)
TOMBSTONES = TableShape(
    "tombstones",
    (
        *_JOB,
        _word("agent"),
        _number("event_count"),
        _digest("head_leaf"),
        _word("deleted_by"),
        _text("reason"),
        _number("retention_days", "int"),
        _text("archive_ref"),
        *_WRITTEN,
    ),
    ("tenant_id", "job_id"),
)
ERASURES = TableShape(
    "erasures",
    (*_JOB, _number("seq"), _word("name"), _number("audit_seq"), _word("erased_by"), _text("reason"), *_WRITTEN),
    ("tenant_id", "job_id", "seq", "name"),
)
AUDIT = TableShape(
    "audit",
    (
        _word("tenant_id"),
        _number("seq"),
        _derived("type", "text"),
        _derived("happened_at", "time"),
        _digest("leaf"),
        _text("line"),
        *_WRITTEN,
    ),
    ("tenant_id", "seq"),
)

TABLES: dict[str, TableShape] = {
    shape.name: shape
    for shape in (
        EVENTS, CELLS, LEDGER, LEASE_CHANGES, LIMIT_WAITS, SNAPSHOTS, SEALS, TOMBSTONES, ERASURES, AUDIT,
    )
}  # fmt: skip
