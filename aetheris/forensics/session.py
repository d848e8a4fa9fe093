"""A DuckDB session over a lake or an evidence zip: the lake's tables as views, and nothing else in reach.

Only the source's own files can be read, nothing can be written or fetched, and
the configuration is locked before the first query. Free SQL is for SELECT
alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import duckdb
import pyarrow as pa

from aetheris.domain import ids
from aetheris.domain.errors import Corrupt, Refused
from aetheris.forensics import library
from aetheris.forensics.library import Query
from aetheris.forensics.receipts import Receipt, digest_of, receipt
from aetheris.lake import layout
from aetheris.lake.opened import OpenedLake
from aetheris.lake.schema import TABLES

_TENANT = re.compile(ids.TENANT_PATTERN)
_FREE = "sql"


@dataclass(frozen=True)
class Answer:
    """A table and where it comes from."""

    table: pa.Table
    query: Query
    receipt: Receipt

    @property
    def sql(self) -> str:
        """The SQL that made it."""
        return self.query.sql

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as dictionaries. Errors: Refused, where Python has no such value."""
        try:
            return list(self.table.to_pylist())
        except (OverflowError, ValueError) as error:  # DuckDB's years go further, and it has infinite ones
            raise Refused(
                f"query {self.query.name}: {error}: a date or time that can't be shown; cast it to text (::varchar)"
            ) from None


class Session:
    """Queries over one source. Close it, or use it as a context manager."""

    #: What stands behind the rows, for people.
    assurance = "every file's SHA-256 matches"

    def __init__(self, connection: duckdb.DuckDBPyConnection, source_sha256: str, name: str) -> None:
        self._connection = connection
        self.source_sha256 = source_sha256
        self.name = name

    @classmethod
    def over_lake(cls, lake: OpenedLake, *, tenant: str | None = None, threads: int | None = None) -> Self:
        """Return a session over an opened lake, or over one tenant's part of it alone.

        With a tenant, no file of another can be read, whatever is asked.
        Errors: Refused when the lake has files that don't say whose they are.
        """
        folders = [str(lake.folder.absolute())]
        if tenant is not None:
            if not _TENANT.fullmatch(tenant):
                raise Refused(f"{tenant[:64]!r} is no tenant's name")
            if stray := [f.path for f in lake.files if layout.tenant_of(f.path) is None]:
                raise Refused(f"{lake.folder}: {stray[0]} is not in any tenant's folder, so no tenant can be shown it")
            folders = [str((lake.folder / name / "data" / tenant).absolute()) for name in lake.tables]
        connection = _connect(threads)
        digests: list[str] = []
        for name, table in lake.tables.items():
            files = [f for f in table.files if tenant is None or layout.tenant_of(f.path) == tenant]
            digests.extend(f.sha256 for f in files)
            if not files:
                _keep(connection, name, table.schema.empty_table())
                continue
            paths = ", ".join("'" + str((lake.folder / f.path).absolute()).replace("'", "''") + "'" for f in files)
            connection.execute(
                f"CREATE VIEW {name} AS SELECT {_columns(table.schema)}"
                f" FROM read_parquet([{paths}], hive_partitioning = false)"
                # The folder says whose file it is; a row that says otherwise is not shown.
                + ("" if tenant is None else f" WHERE tenant_id = '{tenant}'")
            )
        _lock(connection, folders)
        return cls(connection, digest_of(digests), str(lake.folder))

    @classmethod
    def over_tables(cls, tables: Mapping[str, pa.Table], source_sha256: str, name: str) -> Self:
        """Return a session over Arrow tables of the lake's shapes; a table not given is empty."""
        connection = _connect(None)
        for table in TABLES:
            _keep(connection, table, tables.get(table, TABLES[table].arrow.empty_table()))
        _lock(connection, [])
        return cls(connection, source_sha256, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the source."""
        self._connection.close()

    def query(self, name: str, /, **parameters: Any) -> Answer:
        """Run a named query. Parameters not given are NULL. Errors: Refused, Corrupt."""
        query = library.get(name)
        if odd := sorted(parameters.keys() - set(query.binds)):
            takes = ", ".join(query.binds) or "none"
            raise Refused(f"query {name} has no parameter {odd[0]!r} (it has {takes})")
        if big := [n for n, v in sorted(parameters.items()) if isinstance(v, int) and not -(2**63) <= v < 2**63]:
            raise Refused(f"parameter {big[0]} is beyond 64 bits: give a number that a column can hold")
        return self._run(query, {bind: parameters.get(bind) for bind in query.binds})

    def sql(self, text: str, **parameters: Any) -> Answer:
        """Run a SELECT of one's own. Errors: Refused for anything else."""
        try:
            text.encode()
            statements = self._connection.extract_statements(text)
        except UnicodeEncodeError:
            raise Refused("the SQL is not UTF-8 text; write it in UTF-8") from None
        except duckdb.Error as error:
            raise Refused(f"the SQL can't be read: {_line(error)}") from None
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise Refused("one SELECT at a time: this session only reads")
        answer = self._run(Query(_FREE, "free SQL", text, {}), parameters)
        names = answer.table.column_names
        if twice := sorted(name for name in set(names) if names.count(name) > 1):
            raise Refused(f"two columns are named {twice[0]!r}, and a row tells them by name: rename one (AS ...)")
        return answer

    def _run(self, query: Query, parameters: dict[str, Any]) -> Answer:
        cursor = self._connection.cursor()
        try:
            table = cursor.sql(query.sql, params=parameters or None).to_arrow_table()
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            if query.name == _FREE and isinstance(error, duckdb.InvalidInputException):  # a value of its own
                raise Refused(f"query {query.name}: {_line(error)}") from None
            raise Corrupt(f"{self.name}: {_line(error)}") from None
        except duckdb.Error as error:
            raise Refused(f"query {query.name}: {_line(error)}") from None
        finally:
            cursor.close()
        return Answer(table, query, receipt(query, parameters, self.source_sha256))


def _connect(threads: int | None) -> duckdb.DuckDBPyConnection:
    config: dict[str, Any] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    if threads is not None:
        config["threads"] = str(threads)
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _keep(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    # A table of its own: what is merely registered is not seen by cursors.
    connection.register("given", rows)
    connection.execute(f"CREATE TABLE {name} AS SELECT {_columns(rows.schema)} FROM given")
    connection.unregister("given")


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f'"{name}"' for name in schema.names)


def _lock(connection: duckdb.DuckDBPyConnection, folders: list[str]) -> None:
    quoted = ", ".join("'" + folder.replace("'", "''") + "'" for folder in folders)
    connection.execute(f"SET allowed_directories = [{quoted}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _line(error: Exception) -> str:
    return " ".join(str(error).split("LINE 1:")[0].split())[:300]
