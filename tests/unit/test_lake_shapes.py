"""What can't be changed once lakes exist: field ids, partitions, properties, the watermark's arithmetic."""

from __future__ import annotations

import random

import pytest

from aetheris.domain.errors import Corrupt
from aetheris.lake import TABLES, Watermark, layout, tables, watermark

COLUMNS = {
    "events": "tenant_id job_id seq type step epoch happened_at leaf line xid recorded_at",
    "cells": "tenant_id job_id seq name salt body xid recorded_at",
    "ledger": "tenant_id job_id seq step attempt tool_name effect status epoch idempotency_key args_hash result_hash"
    " outcome xid recorded_at",
    "lease_changes": "tenant_id job_id epoch change worker_id lease_until xid recorded_at",
    "limit_waits": "tenant_id job_id step attempt kind name asked_at slot_at started_at outcome xid recorded_at",
    "snapshots": "tenant_id job_id seq kind version leaf body mac xid recorded_at",
    "seals": "tenant_id job_id seal dsse tlog_proof timestamp xid recorded_at",
    "tombstones": "tenant_id job_id agent event_count head_leaf deleted_by reason retention_days archive_ref xid"
    " recorded_at",
    "erasures": "tenant_id job_id seq name audit_seq erased_by reason xid recorded_at",
    "audit": "tenant_id seq type happened_at leaf line xid recorded_at",
}


def test_columns_keep_their_field_ids() -> None:
    """Old files are read by field id: a column is added at the end, never moved or renamed."""
    found = {name: [(f.field_id, f.name) for f in shape.iceberg.fields] for name, shape in TABLES.items()}
    assert found == {name: list(enumerate(text.split(), 1)) for name, text in COLUMNS.items()}
    for shape in TABLES.values():
        assert [int(f.metadata[b"PARQUET:field_id"]) for f in shape.arrow] == list(range(1, len(shape.arrow) + 1))


def test_every_table_is_cut_by_tenant_and_day_recorded() -> None:
    """Erasure and compaction work on one tenant and day; late rows must not reach a closed one."""
    for shape in TABLES.values():
        assert str(shape.partitions) == str(TABLES["events"].partitions).replace(
            f"({len(TABLES['events'].columns)})", f"({len(shape.columns)})"
        )
        names = [shape.columns[f.source_id - 1].name for f in shape.partitions.fields]
        assert names == ["tenant_id", "recorded_at"]


def test_what_holds_content_has_no_statistics() -> None:
    """Whoever adds a column must say on purpose that its bounds may be kept."""
    private = {c.name for shape in TABLES.values() for c in shape.columns if not c.bounded}
    assert {"salt", "body", "line", "reason", "seal"} <= private
    for shape in TABLES.values():
        properties = tables.properties_of(shape)
        assert properties["write.metadata.metrics.default"] == "none"
        assert not any(f"write.metadata.metrics.column.{name}" in properties for name in private - {"timestamp"})


def test_pyicebergs_own_retry_is_off() -> None:
    """Its retry commits a batch on top of a head that already holds it."""
    for shape in TABLES.values():
        found = tables.properties_of(shape)
        assert found["commit.retry.num-retries"] == "0"
        assert found["write.metadata.delete-after-commit.enabled"] == "true"
        assert found["commit.manifest-merge.enabled"] == "true"


def mark(snapshot: str, **other: object) -> Watermark:
    """A watermark of one store."""
    return Watermark(**{"snapshot": snapshot, "store": "s", "lake": "l", "system": "1", "timeline": 1, **other})  # type: ignore[arg-type]


def visible(snapshot: str, xid: int) -> bool:
    """PostgreSQL's own definition."""
    _, top, running = watermark.parse(snapshot)
    return xid < top and xid not in running


def test_covers_is_exactly_to_have_seen_all_that_the_other_saw() -> None:
    """A mirror that takes an older cut for a newer one turns the watermark back, and rows come twice."""
    dice = random.Random(3)
    answers = set()
    for _ in range(5_000):
        pair = []
        for _ in range(2):
            top = dice.randrange(1, 9)
            running = sorted(x for x in range(1, top) if dice.random() < 0.3)
            pair.append(f"{running[0] if running else top}:{top}:{','.join(map(str, running))}")
        one, two = pair
        want = all(visible(one, xid) for xid in range(1, 10) if visible(two, xid))
        assert mark(one).covers(mark(two)) == want
        answers.add(want)
    assert answers == {True, False}


def test_a_watermark_is_read_back_as_written() -> None:
    """It stands in Iceberg's metadata for years."""
    written = mark("5:9:5,7", foreign=True)
    assert watermark.from_text(written.text(), "here") == written


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        "[]",
        "null",
        '{"snapshot":"5:9:"}',
        mark("5:9").text(),
        mark("5:9:5,").text(),
        mark("a:b:").text(),
    ],
)
def test_a_head_without_a_sound_watermark_is_corrupt(text: str | None) -> None:
    """Guessing where a table stands would lose rows or double them."""
    with pytest.raises(Corrupt, match="lake table events"):
        watermark.from_text(text, "lake table events")


@pytest.mark.parametrize("field", ["store", "lake", "system", "timeline"])
def test_each_part_of_the_incarnation_tells_stores_apart(field: str) -> None:
    """A restore changes only one of them."""
    assert mark("1:1:").same_store(mark("9:9:"))
    assert not mark("1:1:").same_store(mark("1:1:", **{field: 2 if field == "timeline" else "other"}))


def test_a_path_tells_tenant_day_and_digest() -> None:
    """Writer, reader and rebuild agree on paths by construction."""
    path = layout.data_file("events", "acme.eu", 20_000, "00ff", "a" * 64)
    assert path == f"events/data/acme.eu/2024-10-04/00ff-{'a' * 64}.parquet"
    assert layout.partition_of(path) == ("acme.eu", 20_000)
    assert layout.sha256_of(path) == "a" * 64
    for other in ("events/data/acme/2024-10-04/x.parquet", f"events/data/acme/2024-13-04/00-{'a' * 64}.parquet", "x"):
        assert layout.partition_of(other) is None
