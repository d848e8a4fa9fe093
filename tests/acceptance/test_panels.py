"""Panels: useful when empty, safe and small whatever a record holds, and true as values."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import aetheris as ae
import aetheris.workbench as wb
from aetheris.demo.fixtures_jobs import FIRST_DAY_US, Pen
from aetheris.demo.fixtures_scripts import Rows, audit, lay
from aetheris.domain.errors import Refused
from aetheris.evidence.verdict import LAYERS
from aetheris.store.database import Database
from aetheris.workbench import Desk, look, panels
from aetheris.workbench.charts import timeline
from aetheris.workbench.panels import DoubtPanel, EvidencePanel, LimitPanel, ReplayPanel, TenantPanel, TracePanel
from aetheris.workbench.panels.base import Panel, text
from aetheris.workbench.parked import Waiting
from tests.acceptance.panel_support import HOSTILE, Markup, desk_of, empty, hostile
from tests.acceptance.test_docs import command_of

FIXTURES = Path(__file__).parents[2] / "data" / "fixtures"
PANELS: list[type[Panel]] = [getattr(panels, name) for name in panels.__all__]
TAGS = {"div", "style", "p", "pre", "h4", "table", "thead", "tbody", "tr", "th", "td", "span", "a"}
TEXT_LIMIT, FIGURE_LIMIT = 60_000, 60_000


def by_name(panel: type[Panel]) -> str:
    return panel.__name__


@pytest.fixture(scope="module")
def bad() -> Desk:
    """A record by an enemy."""
    return hostile()


@pytest.mark.parametrize("make", PANELS, ids=by_name)
def test_an_empty_panel_says_what_is_missing_and_what_to_type(make: Callable[[Desk], Panel]) -> None:
    """A blank square teaches nobody; what it says to type is a command that there is."""
    panel = make(empty())
    said = "".join(panel.texts)
    typed = [line for block in re.findall("<pre>(.*?)</pre>", said, re.DOTALL) for line in block.splitlines()]
    ours = [line for line in typed if line.startswith("aetheris ")]
    assert ours
    assert len(re.findall(r"<p>[^<]{40,}", said)) == 1
    for line in ours:
        context, left = command_of(shlex.split(line)[1:])
        context.command.make_context(line, left, parent=context.parent)
    assert repr(panel)
    assert panel.code  # type: ignore[attr-defined]
    assert not panel.figures
    if isinstance(panel, ReplayPanel | EvidencePanel):
        button = panel.measure if isinstance(panel, ReplayPanel) else panel.make
        button.click()
        assert repr(panel)


@pytest.mark.parametrize("make", PANELS, ids=by_name)
def test_a_hostile_record_is_shown_as_text_and_cut(make: Callable[[Desk], Panel], bad: Desk) -> None:
    """No tag, attribute or reordering of a stranger's reaches the page, and ten megabytes don't either."""
    panel = make(bad)
    if isinstance(panel, EvidencePanel):
        panel.make.click()
        panel.left_out.value = HOSTILE
        panel.make.click()
    if isinstance(panel, ReplayPanel):
        panel.measure.click()
    shown = "".join(panel.texts)
    markup = Markup(shown)
    assert markup.tags <= TAGS
    assert {name for name, _ in markup.attributes} <= {"class", "style"}
    assert all("script" not in value for _, value in markup.attributes)
    figures = [json.dumps(figure, ensure_ascii=False) for figure in panel.figures]
    for piece in (shown, repr(panel), *figures, *_options(panel)):
        assert "\u202e" not in piece
        assert "\x1b" not in piece
    for figure in figures:
        assert "<script" not in figure
        assert "$" not in figure
    assert len(shown) < TEXT_LIMIT
    assert sum(map(len, figures)) < FIGURE_LIMIT


def _options(panel: Panel) -> list[str]:
    choosers = [w for w in vars(panel).values() if hasattr(w, "options")]
    return [str(name) for w in choosers for name, *_ in (o if isinstance(o, tuple) else (o,) for o in w.options)]


def test_what_an_enemy_may_do_is_really_there(bad: Desk) -> None:
    """Were the record harmless, the test above would hold nothing."""
    assert "<script>" in bad.jobs.rows[0]["agent"]
    assert max(len(cell["body"]) for job in bad.jobs for cell in job.cells.values()) > 9_000_000
    assert Markup(f"<td>{HOSTILE}</td>").tags - TAGS == {"script", "img"}
    assert {"onerror", "href"} <= {name for name, _ in Markup(f"<td>{HOSTILE}</td>").attributes}
    assert {w.kind for w in bad.parked().waiting} == {"doubt", "approval"}


def test_a_command_to_paste_can_do_nothing_else(bad: Desk) -> None:
    """A tenant's name is a stranger's too: quoted, it stays one word of our own command."""
    for waiting in bad.parked().waiting:
        for _, command in waiting.commands:
            words = shlex.split(command)
            assert words[:2] == ["aetheris", "--tenant"]
            assert words[3] in ("resolve", "approve")
            assert words[4] == waiting.job


def _waiting(kind: str) -> Waiting:
    now = datetime.now(UTC)
    return Waiting("acme", "7kq2", "rebook", kind, 3, 1, "refund", "because", "", now, None, now + timedelta(hours=3))


@pytest.mark.parametrize("kind", ["doubt", "approval", "paused", "stopped"])
def test_what_a_panel_says_to_type_is_a_command_that_there_is(kind: str) -> None:
    """Renamed options are found here, not by an operator at night."""
    waiting = _waiting(kind)
    assert waiting.advice
    assert len(waiting.commands) >= 2
    for _, command in waiting.commands:
        words = shlex.split(command)
        assert words[:3] == ["aetheris", "--tenant", "acme"]
        context, left = command_of(words[3:])
        context.command.make_context(command, left, parent=context.parent)


@ae.tool
async def pay(cents: int) -> str:
    """Break as a line breaks: nobody knows what became of it."""
    raise ConnectionResetError("the line broke")


@ae.agent(version="1")
async def teller(ctx: ae.Context, how: str) -> str:
    """Ask, call or wait, as it is told."""
    if how == "asks":
        return str(await ctx.approval("Refund 42.00?", role="operator"))
    if how == "calls":
        return await ctx.call(pay, cents=4200)
    return str(await ctx.wait_signal("go"))


def test_the_doubt_panel_shows_what_really_waits_and_nothing_once_it_is_answered(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From real jobs through a real lake: a doubt with the key the tool was given, an approval, a pause."""
    monkeypatch.setenv("AETHERIS_HOME", str(tmp_path / "home"))
    with ae.open(database.admin_dsn) as system:
        asks, calls, waits = (system.submit(teller, how) for how in ("asks", "calls", "waits"))
        system.wait(asks, calls, waits)
        waits.pause("audit")
        _until(lambda: "pause_requested" in [e.type for e in waits.record.events])
        system.mirror()
        panel = DoubtPanel(wb.open(system.lake))
        assert {w.job: w.kind for w in panel.parked.waiting} == {
            asks.id: "approval", calls.id: "doubt", waits.id: "paused"
        }  # fmt: skip
        told = {w.kind: w for w in panel.parked.waiting}
        assert told["approval"].reason == "Refund 42.00?"
        assert "ConnectionResetError" in told["doubt"].reason
        started = next(e for e in calls.record.events if e.type == "tool_invocation_started")
        assert told["doubt"].key == started.data["idempotency_key"]
        panel.row_choice.value = panel.parked.waiting.index(told["doubt"])
        assert panel.selected == told["doubt"]
        shown = "".join(panel.texts)
        assert told["doubt"].key in shown
        assert "4200" in shown
        assert f"resolve {calls.id} 1 --as not-done" in shown
        assert panel.rows_shown == 3
        asks.approve(1, why="called")
        calls.resolve(1, "done", why="bank statement", result="R-17", worker_gone=True)
        waits.resume()
        waits.signal("go")
        system.wait(asks, calls, waits)
        system.mirror()
        assert repr(DoubtPanel(wb.open(system.lake))) == "doubt panel: nothing waits for a person"


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def test_a_panel_asks_nobody_outside_this_machine() -> None:
    """No address stands in what it draws, and no button would send it away."""
    desk = wb.open(FIXTURES / "clean")
    for make in PANELS:
        panel = make(desk)  # type: ignore[call-arg]
        drawn = "".join(panel.texts) + json.dumps(panel.figures)
        assert not re.search(r"(https?:)?//[a-z]", drawn)
        assert all("sendDataToCloud" not in json.dumps(figure) for figure in panel.figures)
        # JupyterLab drew a responsive figure with no height: a blank where the tenants' requests should be.
        assert all("responsive" not in figure["config"] and figure["layout"]["height"] for figure in panel.figures)
    assert "url(" not in look.STYLE
    assert "@import" not in look.STYLE


def test_a_record_that_can_not_be_read_is_one_line_in_a_panel() -> None:
    """In a widget's callback a traceback is swallowed, and a blank square remains."""
    desk = wb.open(FIXTURES / "clean")
    first = desk.jobs.rows[0]["job_id"]
    panel = TracePanel(desk)
    desk.jobs.rows.append(desk.jobs.rows[0])  # now two jobs have this id
    panel.job_choice.value = desk.jobs.rows[1]["job_id"]
    panel.job_choice.value = first
    assert "2 jobs start with" in "".join(panel.texts)
    assert repr(panel) == "trace panel: no jobs"
    where = text()
    with panels.base.saying(where):
        raise Refused(HOSTILE)
    assert Markup(where.value).tags == {"div", "p"}


def test_a_long_job_is_turned_page_by_page() -> None:
    """Of ten thousand steps the first two hundred are drawn, and the list names these."""
    pen = Pen("acme", "long", "reader", "1", FIRST_DAY_US, {})
    pen.leased("w1", 5000)
    for n in range(450):
        pen.read("look", {"n": n}, n, 1000)
    panel = TracePanel(desk_of(lay([pen.script()])))
    assert panel.rows_shown == 452
    assert len(panel.step_choice.options) == timeline.ROWS_MOST - 2
    panel.first_line.value = 401
    assert "lines 401 to 452 of 452" in panel.figures[0]["layout"]["title"]["text"]
    assert panel.step_choice.options[0][0] == "401. call 399 look"
    panel.step_choice.value = 450
    assert "step 450" in "".join(panel.texts)


def test_the_lab_shows_waits_rate_and_each_call_of_the_chosen_limit() -> None:
    """Each figure is of what the record holds; the sliders move what-if and the line of the limit alone."""
    rows = Rows()
    for n in range(20):
        at = 1_000_000_000_000_000
        rows.table("limit_waits").append(
            {
                "tenant_id": "acme", "job_id": f"job-{n}", "step": 1, "attempt": 1, "kind": "tool", "name": "refund",
                "asked_at": at, "slot_at": at + n * 100_000, "started_at": at + n * 100_000, "outcome": "started",
                "xid": 1, "recorded_at": at,
            }
        )  # fmt: skip
    panel = LimitPanel(desk_of(rows))
    assert panel.code == "lake.limits('refund').what_if(qps=10, burst=1)"
    assert panel.rows_shown == 20
    panel.qps.value = 13.83662
    assert panel.code == "lake.limits('refund').what_if(qps=13.8, burst=1)"  # as the slider reads
    assert panel.shown.name == "refund at qps=13.8, burst=1"
    panel.qps.value = 20
    assert panel.shown.p95_us == pytest.approx(902_500)
    assert panel.figures[0]["data"][0]["y"][-1] == 20
    panel.figure_choice.value = "starts per second"
    assert panel.figures[0]["data"][0]["y"] == [10, 10]
    assert "limit 20 per second" in json.dumps(panel.figures)
    panel.figure_choice.value = "each call"
    assert len(panel.figures[0]["data"][0]["y"]) == 20
    assert "902 ms" in "".join(panel.texts)


def test_the_bench_shows_a_jobs_state_at_any_event_and_whether_snapshots_are_true() -> None:
    """Time travel by the fold, and the one law of snapshots."""
    desk = wb.open(FIXTURES / "clean")
    panel = ReplayPanel(desk)
    panel.job_choice.value = desk.jobs.where(status="parked")[0].id
    assert "is parked" in "".join(panel.texts)
    panel.through.value = 5
    assert repr(panel) == "replay panel: job rbbbq975 at event 5: running"
    assert panel.state is not None
    assert panel.state.steps[3][:2] == ("refund", "started")
    panel.measure.click()
    assert "aetheris snapshot JOB" in "".join(panel.texts)
    broken = ReplayPanel(wb.open(FIXTURES / "snapshot_of_another_job"))
    broken.measure.click()
    assert broken.folds is not None
    assert not broken.folds.all_same
    assert "A snapshot says another thing" in "".join(broken.texts)
    assert "DIFFERENT" in "".join(broken.texts)


def test_the_tenants_panel_counts_and_names_who_was_refused() -> None:
    """And says it when a chain is broken."""
    rows, told = Rows(), {"resource_type": "job", "resource_id": "7kq2", "client_ip": "10.0.0.9", "request_id": "r"}
    entries = [(5, "system", "audit_opened", {"tenant": "acme"})]
    entries += [(6 + n, "user/eve", "view_job", {**told, "success": n == 0, "status": 403}) for n in range(3)]
    audit(rows, "acme", entries)
    panel = TenantPanel(desk_of(rows))
    assert (panel.tenant, panel.rows_shown) == ("acme", 2)
    assert panel.refused[0]["actor"] == "user/eve"
    assert [bar["x"] for bar in panel.figures[0]["data"]] == [[1], [2]]
    assert "its audit chain holds, entries: 3" in "".join(panel.texts)
    rows.table("audit")[2]["line"] = rows.table("audit")[2]["line"].replace("eve", "bob")
    assert "its audit chain is broken at entry 3" in "".join(TenantPanel(desk_of(rows)).texts)


def test_a_package_that_is_brought_is_judged_as_any_other() -> None:
    """Dropped into the panel by whoever was sent it; what is no package is said."""
    panel = EvidencePanel(empty(), trust=FIXTURES / "evidence" / "fixture.pub")
    data = (FIXTURES / "evidence" / "signed.zip").read_bytes()
    _bring(panel, "<b>signed.zip", data)
    assert panel.judgement is not None
    assert panel.judgement.exit_code == 0
    assert [layer["layer"] for layer in panel.judgement.layers] == list(LAYERS)
    assert "&lt;b&gt;signed.zip" in "".join(panel.texts)
    _bring(panel, "no.zip", b"no zip at all")
    assert panel.judgement.exit_code == 2


def _bring(panel: EvidencePanel, name: str, data: bytes) -> None:
    now = datetime.now(UTC)
    panel.brought.value = (
        {"name": name, "type": "", "size": len(data), "content": memoryview(data), "last_modified": now},
    )
