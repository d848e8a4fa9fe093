"""The store against a small model of it: claim, append, expire, signal, cancel, snapshot, end, collect, in any order.

Two workers, stale leases kept and used, messages sent at any moment. The model
is a few dictionaries; what PostgreSQL says must be what the model says, and
every job's chain and ledger must stay sound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import aetheris as ae
from aetheris.domain import events, ledger
from aetheris.domain.errors import Conflict, Lost, Refused
from aetheris.domain.fold import dumps, fold
from aetheris.domain.jobs import JobStatus
from aetheris.domain.ledger import transition_of
from aetheris.runtime.config import Snapshots
from aetheris.runtime.joblog import make_event
from aetheris.runtime.snapshots import Snapshotter
from aetheris.store import history, inbox, leases, retention, seals
from aetheris.store import snapshots as store_snapshots
from aetheris.store.append import Batch, append
from aetheris.store.database import Connection, Database, as_tenant
from aetheris.store.leases import Lease

RUNNING = JobStatus.RUNNING
RESULT = [("result", b"1")]
CALL = {"attempt": 1, "effect": "once", "tool_name": "pay"}
#: what a holder may write -> (event type, data, cells, change of open calls, the state it leaves behind)
SHAPES: dict[str, tuple[str, dict[str, Any], list[tuple[str, bytes]], int, JobStatus]] = {
    "start": ("tool_invocation_started", {**CALL, "idempotency_key": "ab" * 32}, [("args", b"{}")], 1, RUNNING),
    "commit": ("tool_invocation_finished", {**CALL, "duration_us": 1, "outcome": "success"}, RESULT, -1, RUNNING),
    "doubt": ("tool_invocation_unknown", {**CALL, "reason": "lost"}, [], 0, RUNNING),
    "resolve": ("tool_invocation_resolved", {**CALL, "outcome": "done"}, RESULT, -1, RUNNING),
    "park": ("job_parked", {"reason": "waits"}, [], 0, JobStatus.PARKED),
    "complete": ("job_completed", {}, RESULT, 0, JobStatus.COMPLETED),
    "cancel": ("job_cancelled", {"reason": "asked"}, [], 0, JobStatus.CANCELLED),
}  # fmt: skip
#: state of the one call -> what may be written then
LEGAL = {"": {"start"}, "started": {"commit", "doubt"}, "unknown": {"resolve"}, "over": set()}
NEXT = {"start": "started", "commit": "over", "doubt": "unknown", "resolve": "over"}


KEEP = 2
ROUNDS_MOST = 5


@ae.agent
async def idle(ctx: ae.Context) -> None:
    """A job that nobody runs here: the machine is its worker."""


@dataclass
class Model:
    """One job as the model knows it."""

    status: JobStatus = JobStatus.PENDING
    head: int = 1
    epoch: int = 0
    held: bool = False  # a lease that has not run out
    call: str = ""
    sent: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    asleep: bool = False  # at rest, with nothing to wake it
    snapshots: list[int] = field(default_factory=list)  # newest last
    sealed: bool = False
    kept: bool = False  # under legal hold

    @property
    def open(self) -> int:
        """How many calls are open."""
        return int(self.call in ("started", "unknown"))


class _Interrupted(Snapshotter):
    """One that something happens to between reading and writing."""

    meanwhile: Callable[[], Coroutine[Any, Any, None]]
    late = False

    async def _read(self, *args: Any) -> Any:
        read = await super()._read(*args)
        await self.meanwhile()
        if self.late:
            self._within = 0.0
        return read


class Store(RuleBasedStateMachine):
    """Rules over a real store; `new_database` is set before each run."""

    new_database: Callable[[], Database]
    appended = 0
    snapshots = 0
    collections = 0
    handed = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, Model] = {}
        self.collected: dict[str, int] = {}  # job -> its head when it left
        self.count = 0
        self.do(self._open())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run one piece of async work."""
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    async def _open(self) -> None:
        self.database = type(self).new_database()
        self.system = await ae.AsyncSystem(database=self.database).__aenter__()
        self.worker: Connection = await self.database.connect("worker")
        self.other: Connection = await self.database.connect("worker")
        self.keeper: Connection = await self.database.connect("keeper")
        self.clock = await history_clock(self.database)

    def teardown(self) -> None:
        """Close what was opened."""

        async def close() -> None:
            await self.worker.close()
            await self.other.close()
            await self.keeper.close()
            await self.clock.close()
            await self.system.__aexit__(None, None, None)

        self.do(close())
        self.loop.close()
        type(self).appended += self.count

    @initialize()
    def begin(self) -> None:
        """Some jobs to fight over, and two that have ended."""
        for _ in range(5):
            self.submit()
        taken = self.do(self._claim(self.worker, "w0"))
        for lease in taken[:2]:
            made = _batch(lease, "complete", [])
            assert self.do(append(self.worker, "w0", [made])) == {}
            m = self.model[lease.job]
            m.head, m.status, m.held = made.new_head, made.status, False
        self.give_back({"worker": "w0", "leases": taken[2:]})

    @rule()
    def submit(self) -> None:
        """A job is there, and nobody holds it."""
        self.model[self.do(self.system.submit(idle))] = Model()

    @rule(target=handed, worker=st.sampled_from(["w1", "w2"]))
    def claim(self, worker: str) -> Any:
        """A claim takes exactly what is ready or whose lease ran out, each under the next epoch."""
        return _hand(worker, self.do(self._claim(self.worker, worker)))

    async def _claim(self, connection: Connection, worker: str) -> list[Lease]:
        taken = await leases.claim(
            connection, worker, agents={"idle": "1"}, capabilities=[], limit=100, lease_seconds=3600
        )
        ready = {j for j, m in self.model.items() if not m.held and not m.status.terminal and not m.asleep}
        assert {lease.job for lease in taken} == ready
        for lease in taken:
            m = self.model[lease.job]
            assert (lease.epoch, lease.head_seq) == (m.epoch + 1, m.head)
            assert lease.inbox == len(m.sent)
            m.epoch, m.held, m.status = m.epoch + 1, True, JobStatus.RUNNING
        return taken

    @rule(
        hand=handed,
        pick=st.integers(0, 5),
        choices=st.lists(st.integers(0, 59), min_size=3, max_size=8),
        take=st.booleans(),
    )
    def append(self, hand: Any, pick: int, choices: list[int], take: bool) -> None:
        """An append is whole or not at all, by fence, head and state; a stale hand writes nothing."""
        for choice in choices if hand["leases"] else ():
            self._append(hand, pick % len(hand["leases"]), choice, take)

    def _append(self, hand: Any, pick: int, choice: int, take: bool) -> None:
        lease: Lease = hand["leases"][pick]
        if lease.job in self.collected:
            made = _batch(lease, "park", [])
            assert isinstance(self.do(append(self.worker, hand["worker"], [made]))[lease.key], Lost)
            return
        m = self.model[lease.job]
        # A holder folds its own ledger: of the call it tries only what is legal.
        kinds = [*sorted(LEGAL[m.call]) * 4, "park", "complete", "cancel"]
        kind = kinds[choice % len(kinds)]
        messages = self.do(inbox.untaken(self.worker, [lease.key])).get(lease.key, []) if take else []
        made = _batch(lease, kind, [x.id for x in messages])
        refused = self.do(append(self.worker, hand["worker"], [made]))
        current = m.epoch == lease.epoch and m.held
        if not current:
            assert isinstance(
                refused[lease.key], Lost if not m.status.terminal or m.epoch != lease.epoch else Lost | Refused
            )
            return
        if lease.head_seq != m.head:
            assert isinstance(refused[lease.key], Conflict)
            return
        if made.status.terminal and m.open:
            assert isinstance(refused[lease.key], Refused)
            return
        assert refused == {}
        self.count += 1
        hand["leases"][pick] = replace(lease, head_seq=made.new_head, head_leaf=made.new_leaf)
        m.head = made.new_head
        m.call = NEXT.get(kind, m.call)
        m.taken += m.sent if take else []
        m.sent = [] if take else m.sent
        m.status = made.status
        if made.release:
            m.held = False
            m.asleep = not m.sent and not made.status.terminal

    @rule(hand=handed)
    def heartbeat(self, hand: Any) -> None:
        """A heartbeat answers for what is still held, and says where mail waits."""
        held = [(x.tenant, x.job, x.epoch) for x in hand["leases"]]
        alive = self.do(leases.heartbeat(self.worker, hand["worker"], held, 3600)) if held else {}
        expected = {
            x.key: bool(self.model[x.job].sent)
            for x in hand["leases"]
            if x.job in self.model and self.model[x.job].held and self.model[x.job].epoch == x.epoch
        }
        assert alive == expected

    @rule(hand=consumes(handed))
    def release(self, hand: Any) -> None:
        """Released leases are claimable at once; what was lost before is left alone."""
        self.give_back(hand)

    def give_back(self, hand: Any) -> None:
        """Release what a hand holds, in store and model."""
        held = [(x.tenant, x.job, x.epoch) for x in hand["leases"]]
        if held:
            self.do(leases.release(self.worker, hand["worker"], held))
        for x in hand["leases"]:
            if x.job in self.collected:
                continue
            m = self.model[x.job]
            # A lease that ran out but was not taken is still this worker's to give back.
            if m.epoch == x.epoch and m.status is JobStatus.RUNNING:
                m.held, m.status, m.asleep = False, JobStatus.RETRYING, False

    @rule(pick=st.integers(0, 5))
    def expire(self, pick: int) -> None:
        """A lease runs out by the database's clock."""
        held = sorted(j for j, m in self.model.items() if m.held)
        if held:
            job = held[pick % len(held)]
            self.do(
                self.clock.execute(
                    "UPDATE aetheris.jobs SET lease_until = now() - interval '1s' WHERE job_id = %s", [job]
                )
            )
            self.model[job].held = False

    @rule(pick=st.integers(0, 5), key=st.sampled_from(["a", "b", "c"]), kind=st.sampled_from(["signal", "cancel"]))
    def send(self, pick: int, key: str, kind: str) -> None:
        """A message arrives once by kind and key, wakes the job, and is refused by one that has ended."""
        if not self.model:
            return
        job = sorted(self.model)[pick % len(self.model)]
        m = self.model[job]
        key = kind if kind == "cancel" else key  # a job is cancelled once
        if m.status.terminal:
            with pytest.raises(Refused, match=f"takes no {kind}"):
                self.do(self._send(job, kind, key))
            return
        known = key in m.sent or key in m.taken
        assert self.do(self._send(job, kind, key)) is not known
        if not known:
            m.sent.append(key)
            m.asleep = False

    async def _send(self, job: str, kind: str, key: str) -> bool:
        async with as_tenant(self.system._pool, "default") as connection:
            return await inbox.send(connection, "default", job, kind=kind, key=key, by="user/a", payload=b"1")

    @rule(pick=st.integers(0, 5))
    def snapshot(self, pick: int) -> None:
        """One is written of what stands there, by anybody."""
        self._snapshot(pick, claimed=False, silent=False)

    @rule(target=handed, pick=st.integers(0, 5), claimed=st.booleans(), silent=st.booleans())
    def snapshot_late(self, pick: int, claimed: bool, silent: bool) -> Any:
        """None is written by who was silent, nor over a new holder's head."""
        return self._snapshot(pick, claimed=claimed, silent=silent)

    def _snapshot(self, pick: int, *, claimed: bool, silent: bool) -> Any:
        if not self.model:
            return multiple()
        taken_up: list[Lease] = []
        job = sorted(self.model)[pick % len(self.model)]
        m = self.model[job]
        taker = _Interrupted(Snapshots(keep_latest=KEEP), within_seconds=3600)

        async def meanwhile() -> None:
            if claimed:
                taken_up.extend(await self._claim(self.other, "w2"))
            taker.late = silent

        taker.meanwhile = meanwhile
        was, known = m.epoch, m.snapshots and m.snapshots[-1] == m.head
        try:
            taken = self.do(taker.take(self.worker, ("default", job), "timer"))
        except Lost:
            assert m.epoch != was or silent
            return _hand("w2", taken_up)
        assert (taken is None) == bool(known)
        if taken is not None:
            assert (m.epoch, silent) == (was, False)
            assert taken.seq == m.head
            m.snapshots = [*m.snapshots, taken.seq][-KEEP:]
            type(self).snapshots += 1
        return _hand("w2", taken_up)

    @rule(pick=st.integers(0, 5), ending=st.booleans())
    def hold(self, pick: int, ending: bool) -> None:
        """A legal hold is placed once and released once."""
        if not self.model:
            return
        job = sorted(self.model)[pick % len(self.model)]
        change = retention.release_hold if ending else retention.place_hold
        assert self.do(self._kept(change, job)) is (self.model[job].kept is ending)
        self.model[job].kept = not ending

    async def _kept(self, change: Callable[..., Coroutine[Any, Any, bool]], job: str) -> bool:
        async with self.keeper.transaction():
            return await change(self.keeper, "default", job, "ann", "case 7")

    @rule()
    def seal(self) -> None:
        """Whatever has ended is sealed, once."""
        ended = [j for j, m in self.model.items() if m.status.terminal]
        self.do(self._seal(ended))
        for job in ended:
            self.model[job].sealed = True

    @rule()
    def collect(self) -> None:
        """What has ended, is sealed and is not held leaves, whole; nothing else does."""
        due = {j for j, m in self.model.items() if m.status.terminal and m.sealed and not m.kept}
        assert {key[1] for key in self.do(self._collect())} == due
        for job in due:
            self.collected[job] = self.model.pop(job).head
            type(self).collections += 1

    async def _seal(self, jobs: list[str]) -> None:
        async with self.keeper.transaction():
            await seals.put(self.keeper, [(("default", job), b"{}", None) for job in jobs], [])

    async def _collect(self) -> list[tuple[str, str]]:
        async with self.keeper.transaction():
            keys = await retention.lock(self.keeper, [("default", job) for job in self.model])
            await retention.remove(self.keeper, keys, by="gc", reason="age", days=1, archive="lake")
        return keys

    @invariant()
    def nothing_is_left_of_what_left(self) -> None:
        """A tombstone that names the head, and not a row more."""

        async def look() -> dict[str, int]:
            for table in retention.REMOVED:
                cursor = await self.keeper.execute(
                    f"SELECT count(*) AS n FROM aetheris.{table} WHERE job_id = ANY (%s)".encode(),
                    [list(self.collected)],
                )
                row = await cursor.fetchone()
                assert row is not None
                assert row["n"] == 0, table
            cursor = await self.keeper.execute("SELECT job_id, event_count FROM aetheris.job_tombstones")
            return {r["job_id"]: r["event_count"] async for r in cursor}

        assert self.do(look()) == self.collected

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        """Status, head, epoch, open calls and inbox of every job."""

        async def look() -> dict[str, tuple[Any, ...]]:
            cursor = await self.worker.execute(
                "SELECT job_id, status, head_seq, lease_epoch, open_calls, inbox,"
                " cancel_requested_at IS NOT NULL AS cancelled FROM aetheris.jobs"
            )
            return {r["job_id"]: tuple(list(r.values())[1:]) async for r in cursor}

        expected = {
            j: (int(m.status), m.head, m.epoch, m.open, len(m.sent), "cancel" in [*m.sent, *m.taken])
            for j, m in self.model.items()
        }
        assert self.do(look()) == expected

    @invariant()
    def chains_and_ledgers_are_sound(self) -> None:
        """Whatever was tried, the record holds together, and each message became one event."""
        keys = [("default", job) for job in self.model]
        if not keys:
            return
        found = self.do(history.load(self.worker, keys, [1] * len(keys)))
        for key, record in found.items():
            chain = events.Chain()
            told = []
            for line, leaf in zip(record.lines, record.leaves, strict=True):
                event = events.read(line)
                chain.add(event, leaf)
                told.append(transition_of(event))
            transitions = self.do(history.load_ledger(self.worker, *key))
            assert [t for t in told if t is not None] == transitions
            ledger.fold(transitions)
            kept = self.do(store_snapshots.folds(self.worker, key))
            assert [f.place.seq for f in reversed(kept)] == self.model[key[1]].snapshots
            for f in kept:
                assert f.body == dumps(fold([events.read(line) for line in record.lines[: f.place.seq]]))
            assert chain.count == self.model[key[1]].head


async def history_clock(database: Database) -> Connection:
    """Return a connection that may move leases in time, as only a test may."""
    connection: Connection = await Connection.connect(database.admin_dsn, autocommit=True)
    return connection


def _hand(worker: str, leases: list[Lease]) -> Any:
    # An empty hand can do nothing: with many of them about, a run would get nowhere.
    return {"worker": worker, "leases": leases} if leases else multiple()


def _batch(lease: Lease, kind: str, messages: list[str]) -> Batch:
    type_, data, bodies, delta, status = SHAPES[kind]
    made = Batch(lease.tenant, lease.job, lease.epoch, lease.head_seq, lease.head_leaf, last_at=2)
    step = 1 if type_.startswith("tool") else 0
    event, line, leaf, cells = make_event(
        job=lease.job, seq=lease.head_seq + 1, prev=lease.head_leaf, at=time.time_ns() // 1000, by="w",
        epoch=lease.epoch, type=type_, step=step, data=data, bodies=bodies,
    )  # fmt: skip
    made.lines, made.leaves, made.cells = [line], [leaf], list(cells)
    if (transition := transition_of(event)) is not None:
        made.ledger = [transition]
    made.open_delta, made.status = delta, status
    made.release = status is not JobStatus.RUNNING
    made.taken = [(event.seq, message) for message in messages]
    return made


def test_the_store_is_what_a_small_model_says_in_any_order(new_database: Callable[[], Database]) -> None:
    """Nothing that workers, senders and clocks do in any order breaks a fence, a chain or a ledger."""
    Store.new_database = staticmethod(new_database)  # type: ignore[method-assign]
    for _ in range(ROUNDS_MOST):
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Store,
            settings=settings(
                max_examples=15,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
            # Left alone, most runs end after a few steps, where nothing interesting has happened yet.
            _min_steps=30,
        )
        if Store.appended > 15 and Store.snapshots > 15 and Store.collections > 5:
            break
    # The machine did get to what it is about; chance alone may want another round for that.
    assert Store.appended > 15
    assert Store.snapshots > 15
    assert Store.collections > 5
