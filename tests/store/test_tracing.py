"""Traces: one tree from the submitter to the tool, named by convention; event and span point at each other."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import aetheris as ae
from aetheris.demo.model_server import ModelServer, refusal, text
from aetheris.runtime import tracing
from aetheris.runtime.config import Config
from aetheris.runtime.config_file import Loaded
from aetheris.runtime.replay import replay
from aetheris.store.database import Database
from tests.store.job_support import FAST, ended, run

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SEEN: list[str] = []


@ae.tool(effect="none", retries=1)
async def glance(call: ae.Call, secret: str) -> str:
    """Fails the first time, with what it was given in its message."""
    SEEN.append(call.traceparent)
    if len(SEEN) == 1:
        raise ValueError(f"no such {secret}")
    return secret


@ae.tool
def pay(call: ae.Call, secret: str) -> str:
    """Notes the span that it runs in, in its thread."""
    SEEN.append(call.traceparent)
    assert tracing.current() in ("", call.traceparent)
    return secret


@ae.agent
async def pays_nothing(ctx: ae.Context) -> None:
    """A child."""


@ae.agent(version="3")
async def traced(ctx: ae.Context, secret: str) -> str:
    """A tool, a rest, a model, another tool, a child."""
    await ctx.call(glance, secret=secret)
    await ctx.sleep(timedelta(seconds=1.2))
    reply = await ctx.llm("desk", secret)
    await ctx.call(pay, secret=secret)
    await ctx.child(pays_nothing)
    return str(reply.text)


@contextmanager
def spans() -> Iterator[InMemorySpanExporter]:
    """Collect the spans made inside."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "test"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    SEEN.clear()
    with tracing.using(provider):
        yield exporter


def test_a_job_is_one_trace_from_its_submitter_to_its_tools(database: Database) -> None:
    """Two holds, three attempts of tools, two of a model: a span each, whatever was replayed in between."""

    async def work() -> None:
        with spans() as exporter, ModelServer([refusal(503, "down"), text("Yes.", received=31, made=4)]) as server:
            model = {"provider": "local", "base_url": server.url, "model": "m-1"}
            config = Loaded(Config.model_validate({"models": {"desk": model}}))
            async with ae.AsyncSystem(database=database, config=config) as system:
                worker = await system.start_worker([traced, pays_nothing], FAST)
                job = await system.submit(traced, "hush-hush", traceparent=PARENT)
                record = await ended(system, job)
                while "completed" not in worker.counts.ended or worker._held:
                    await asyncio.sleep(0.02)
            found = list(exporter.get_finished_spans())
            assert {f"{s.context.trace_id:032x}" for s in found} == {PARENT[3:35]}
            names = sorted(s.name for s in found)
            assert names == sorted([
                *["invoke_agent traced"] * 2, "invoke_agent pays_nothing",
                "step glance", "execute_tool glance", "execute_tool glance",
                "step llm:desk", "chat m-1", "chat m-1",
                "step pay", "execute_tool pay",
            ])  # fmt: skip
            by_id = {s.context.span_id: s for s in found}
            chats = [s for s in found if s.name == "chat m-1"]
            way = [chats[0]]
            while way[-1].parent is not None and way[-1].parent.span_id in by_id:
                way.append(by_id[way[-1].parent.span_id])
            assert [s.name for s in way] == ["chat m-1", "step llm:desk", "invoke_agent traced"]
            assert way[-1].parent is not None
            assert f"{way[-1].parent.span_id:016x}" == PARENT[36:52]
            check_attributes(found, job, server)
            # Event and span point at each other; the tool and the endpoint were told of it.
            told = {e.data["traceparent"][36:52] for e in record.events if "traceparent" in e.data}
            attempts = [s for s in found if not s.name.startswith("step")]
            assert told - {PARENT[36:52]} == {
                f"{s.context.span_id:016x}" for s in attempts if s.name != "invoke_agent pays_nothing"
            }
            assert {t[36:52] for t in SEEN} < told
            assert {a.headers["traceparent"][36:52] for a in server.asked} < told
            before = len(exporter.get_finished_spans())
            assert (await replay(traced, record)).same
            assert len(exporter.get_finished_spans()) == before
            assert "hush-hush" not in str([s.to_json() for s in found])

    run(work)


def check_attributes(found: list[ReadableSpan], job: str, server: ModelServer) -> None:
    """By the semantic conventions for generative AI."""
    first = {s.name: dict(s.attributes or {}) for s in reversed(found)}
    assert first["invoke_agent traced"]["gen_ai.operation.name"] == "invoke_agent"
    assert first["invoke_agent traced"]["gen_ai.agent.name"] == "traced"
    assert first["invoke_agent traced"]["gen_ai.agent.version"] == "3"
    assert first["execute_tool pay"]["gen_ai.tool.name"] == "pay"
    assert first["execute_tool pay"]["gen_ai.operation.name"] == "execute_tool"
    assert {dict(s.attributes or {})["aetheris.tenant"] for s in found} == {"default"}
    own = [s for s in found if "pays_nothing" not in s.name]
    assert {dict(s.attributes or {})["gen_ai.conversation.id"] for s in own} == {job}
    down, answered = (s for s in found if s.name == "chat m-1")
    assert answered.kind is trace.SpanKind.CLIENT
    given: dict[str, Any] = dict(answered.attributes or {})
    assert given["gen_ai.provider.name"] == "local"
    assert (given["gen_ai.usage.input_tokens"], given["gen_ai.usage.output_tokens"]) == (31, 4)
    assert given["gen_ai.response.model"] == "test-model-2026"
    assert (given["server.address"], f":{given['server.port']}/" in server.url) == ("127.0.0.1", True)
    assert dict(down.attributes or {})["error.type"] == "ModelDown"
    assert down.status.status_code is trace.StatusCode.ERROR
    assert not down.events
    failed = [s for s in found if s.name == "execute_tool glance"]
    assert [dict(s.attributes or {}).get("error.type") for s in failed] == ["ValueError", None]


def test_without_a_submitters_trace_later_holds_hang_on_the_first(database: Database) -> None:
    """Days may lie between two holds; they are one trace all the same."""

    @ae.agent
    async def rests(ctx: ae.Context) -> None:
        await ctx.sleep(1.2)

    async def work() -> None:
        with spans() as exporter:
            async with ae.AsyncSystem(database=database) as system:
                await system.start_worker([rests], FAST)
                await ended(system, await system.submit(rests, traceparent="00-broken"))
            holds = exporter.get_finished_spans()
            assert [s.name for s in holds] == ["invoke_agent rests"] * 2
            assert holds[0].parent is None
            assert holds[1].parent is not None
            assert holds[1].parent.span_id == holds[0].context.span_id
            assert [dict(s.attributes or {})["aetheris.end"] for s in holds] == ["waiting", "completed"]

    run(work)


def test_without_an_sdk_the_submitters_trace_is_passed_on_and_nothing_is_made(database: Database) -> None:
    """The tool still tells those it calls what they are part of; the record holds the submitter's word alone."""

    @ae.agent
    async def pays(ctx: ae.Context) -> str:
        return await ctx.call(pay, secret="x")

    async def work() -> None:
        SEEN.clear()
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([pays], FAST)
            record = await ended(system, await system.submit(pays, traceparent=PARENT))
            assert SEEN == [PARENT]
            assert [e.type for e in record.events if "traceparent" in e.data] == ["job_created"]
            plain = await ended(system, await system.submit(pays))
            assert SEEN[1] == ""
            assert not [e for e in plain.events if "traceparent" in e.data]

    run(work)


class _Collector(http.server.BaseHTTPRequestHandler):
    bodies: list[tuple[str, bytes]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        """Take what an exporter sends."""
        self.bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


AGENT = """
import aetheris as ae

@ae.tool
async def pay(n: int) -> int:
    return n

@ae.agent
async def exported(ctx: ae.Context) -> int:
    return await ctx.call(pay, n=1)

if __name__ == "__main__":
    import asyncio, sys
    from aetheris.cli.monitored import monitored
    from aetheris.runtime.config_file import load

    async def main() -> None:
        async with ae.AsyncSystem(sys.argv[1], config=load()) as system:
            stop = monitored(system.config, "w-1")
            await system.start_worker([exported])
            await system.wait([await system.submit(exported)], seconds=20)
            for worker in list(system._workers):
                worker.stop()
                await system._workers.pop(worker)
            stop()

    asyncio.run(main())
"""


def test_spans_leave_by_otlp_when_it_is_switched_on(database: Database, tmp_path: Path) -> None:
    """Against a real HTTP collector: what arrives is protobuf with our resource and spans."""
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    thread = threading.Thread(target=collector.serve_forever, daemon=True)
    thread.start()
    _Collector.bodies.clear()
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "aetheris.yaml").write_text(
        "monitoring:\n  tracing:\n    enable: true\n    service_name: desk\n"
        f"    export_endpoint: http://127.0.0.1:{collector.server_port}\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "agent.py", database.admin_dsn], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    finally:
        collector.shutdown()
        collector.server_close()
    assert done.returncode == 0, done.stderr
    assert {path for path, _ in _Collector.bodies} == {"/v1/traces"}
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    sent = [ExportTraceServiceRequest.FromString(body).resource_spans for _, body in _Collector.bodies]
    names = {s.name for each in sent for r in each for scope in r.scope_spans for s in scope.spans}
    assert names == {"invoke_agent exported", "step pay", "execute_tool pay"}
    who = {a.key: a.value.string_value for a in sent[0][0].resource.attributes}
    assert (who["service.name"], who["service.instance.id"]) == ("desk", "w-1")


def test_tracing_without_its_sdk_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional; switching it on without it must not look as if it worked."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ae.Refused, match=r"pip install '\.\[tracing\]' in a clone, or the wheel with"):
        tracing.configure({"service.name": "x"}, None)


def test_the_command_line_takes_its_trace_from_the_environment(database: Database, tmp_path: Path) -> None:
    """A pipeline's step that submits a job is where the job's trace begins."""
    (tmp_path / "agent.py").write_text(AGENT)
    env = {**os.environ, "AETHERIS_DSN": database.admin_dsn, "TRACEPARENT": PARENT}
    words = [sys.executable, "-m", "aetheris", "submit", "agent:exported", "--json"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            record = await system.record(json.loads(done.stdout)["job"])
            assert record.events[0].data["traceparent"] == PARENT

    run(work)
