"""What an API answers, as our errors; and what a session over one refuses by itself."""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from aetheris.cli.main import cli
from aetheris.domain.audit import Entry, Head, extend
from aetheris.domain.errors import AetherisError, Conflict, Corrupt, Denied, Refused, Unusable
from aetheris.forensics import remote
from aetheris.forensics.remote import Api, _error

TOLD = json.dumps({"detail": "so it is"}).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (401, Denied), (403, Denied), (404, Refused), (409, Conflict), (500, Corrupt), (503, Unusable)],
)
def test_a_status_is_one_of_our_errors_in_the_apis_words(status: int, kind: type[AetherisError]) -> None:
    """The exit code is the same whether the store is here or there."""
    error = _error(status, TOLD)
    assert type(error) is kind
    assert "so it is" in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"title": "x"}', b"[" * 100_000])
def test_an_answer_that_is_not_the_apis_still_makes_one_line(body: bytes) -> None:
    """A proxy answers in its own way."""
    assert "answered 502" in str(_error(502, body))
    assert "AETHERIS_URL" in str(_error(404, body))


def test_an_api_that_nobody_serves_is_named_in_words() -> None:
    """The system's own number for it says nothing to a person."""
    with pytest.raises(
        Unusable, match=r"can't reach http://127\.0\.0\.1:1 \(connection refused\); is `aetheris serve`"
    ):
        Api("http://127.0.0.1:1").get("/api/jobs")


@contextmanager
def answering(data: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of what answers one request with `data` and hangs up, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65_536))
                connection.sendall(data)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"garbage\r\n\r\n", Unusable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", Unusable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Unusable),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", Unusable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + b"[" * 9999, Unusable),
        (b"HTTP/1.1 404 No\r\nContent-Length: 100\r\n\r\n{}", Refused),
        (b"HTTP/1.1 302 No\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Refused),
    ],
    ids=["no HTTP", "cut off", "odd chunks", "many headers", "deep JSON", "an error cut off", "a redirect"],
)
def test_what_no_api_sends_is_one_line(data: bytes, kind: type[AetherisError]) -> None:
    """A proxy that cuts an answer off, or who means harm."""
    with answering(data) as (url, _), pytest.raises(kind):
        Api(url).get("/api/jobs")


JOB = "7kq2" * 10
ODD = [
    "null", "[]", "3", "{}", '"x"', "<html>hello</html>", '{"jobs": [', "",
    '{"jobs": {}, "entries": 10, "lines": [null], "job_id": null, "sent": 1}',
    '{"jobs": [{}], "next": null, "entries": [[]], "job_id": "../../x"}',
]  # fmt: skip
WORDS = [
    ["jobs"], ["trace", JOB], ["trace", "7kq2"], ["cancel", JOB], ["retry", JOB], ["audit"], ["audit", "--check"],
    ["submit", "desk"], ["export", JOB, "-o", "e.zip"], ["audit", "-o", "a.jsonl"],
]  # fmt: skip


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole HTTP answer."""
    head = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(head).encode() + body


def typed(data: bytes, words: list[str], monkeypatch: pytest.MonkeyPatch) -> BaseException | None:
    """What a command says to this answer."""
    with answering(data) as (url, _):
        monkeypatch.setenv("AETHERIS_URL", url)
        return CliRunner().invoke(cli, words).exception


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_another_services_answer_is_one_line_and_leaves_no_file(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON of another kind, a page, half an answer, a redirect, an error in another's words: what and where, exit 2."""
    monkeypatch.chdir(tmp_path)
    away = answer(b"", "Location: https://login.example/", status="302 Found")
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"
    cases = [*(answer(body.encode()) for body in ODD), away, cut, answer(b'{"detail": "Oops"}', status="404 No"),
             answer(b"<html>", status="500 No")]  # fmt: skip
    for data in cases:
        told = typed(data, words, monkeypatch)
        assert isinstance(told, Refused | Unusable), (words, data, told)
        assert told.exit_code == 2
        assert "127.0.0.1" in str(told) or "AETHERIS_URL" in str(told), (data, told)
        assert list(tmp_path.iterdir()) == []
    assert "redirects to 'https://login.example/'" in str(typed(away, words, monkeypatch))


@pytest.mark.parametrize(
    "edit",
    [
        {"duration_us": 10**400}, {"ending": {}}, {"ending": None}, {"lines": [{"seq": 1}]}, {"events": "3"},
        {"job_id": 7}, {"lines": {}},
    ],
)  # fmt: skip
def test_a_trace_of_wrong_types_is_one_line_and_one_that_tells_more_is_shown(
    edit: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later API may have more to say of a line; a number beyond any float is none of ours."""
    line = {
        "seq": 1, "step": 0, "since_start_us": 0, "what": "created", "name": "", "effect": "", "duration_us": None,
        "waited_us": None, "states": [], "attempt": 1, "epoch": 0, "note": "", "later": True,
    }  # fmt: skip
    ending = {"text": None, "characters": 0, "continued_as": None, "error": None, "parked": None, "later": 1}
    whole = {
        "job_id": JOB, "agent": "desk", "agent_version": "1", "status": "running", "key": None, "events": 1,
        "duration_us": 0, "result": None, "ending": ending, "lines": [line],
    }  # fmt: skip
    assert typed(answer(json.dumps(whole).encode()), ["trace", JOB], monkeypatch) is None
    told = typed(answer(json.dumps(whole | edit).encode()), ["trace", JOB], monkeypatch)
    assert isinstance(told, Unusable)
    assert next(iter(edit)) in str(told)


def test_an_answer_beyond_what_is_held_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one line that names the limit, whether a length was told or not; an error's words are bounded as well."""
    monkeypatch.setattr(remote, "ERROR_BYTES_LIMIT", 10)
    long = json.dumps({"detail": "x" * 100, "request_id": "1"}).encode()
    for data in (answer(long), b"HTTP/1.1 200 OK\r\n\r\n" + long):
        with answering(data) as (url, _), pytest.raises(Unusable, match="more than the 50 bytes"):
            Api(url).ask("GET", "/api/jobs", limit=50)
    with answering(answer(long, status="404 No")) as (url, _), pytest.raises(Refused, match="AETHERIS_URL"):
        Api(url).get("/api/jobs")


def test_a_key_that_no_header_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line feed would begin another header; letters beyond Latin-1 have no way to be written there."""
    monkeypatch.setenv("AETHERIS_URL", "http://127.0.0.1:1")
    for key in ("a\nX-Tenant-ID: b", "\u65e5\u672c", "\udcff"):
        told = CliRunner().invoke(cli, ["submit", "desk", "--key", key]).exception
        assert isinstance(told, Refused)
        assert "a key goes into a header" in str(told)


def test_a_download_that_is_cut_off_or_false_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zip and a chain: half of one, one without its end, one beyond a package's size."""
    monkeypatch.chdir(tmp_path)
    package = (Path(__file__).parents[2] / "data/fixtures/evidence/clean.zip").read_bytes()
    chain = b"".join(line.line + b"\n" for line in extend("a", Head(0, b"", 0), [Entry("x", "user/a", True)], 1)[1])
    for words, data in ((["export", JOB, "-o", "e.zip"], package), (["audit", "-o", "a.jsonl"], chain)):
        half = data[: data.index(b"\n") + 1 if data is chain else len(data) // 2]
        cut = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + half
        untold = b"HTTP/1.0 200 OK\r\nX-Head: " + b"0" * 64 + b"\r\n\r\n" + half
        for came in (cut, untold):
            assert isinstance(typed(came, words, monkeypatch), Unusable)
            assert list(tmp_path.iterdir()) == []
    assert typed(answer(package), WORDS[-2], monkeypatch) is None
    assert isinstance(typed(answer(package[:-9]), WORDS[-2], monkeypatch), Unusable)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("e.zip", package)]


def test_a_token_for_this_machine_passes_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over plain http the proxy would read it: a token is never sent in the clear to another machine."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    spec = importlib.util.find_spec("aetheris.forensics.remote")
    assert spec is not None
    assert spec.loader is not None
    proxied = importlib.util.module_from_spec(spec)  # as a process loads it whose environment names the proxy
    spec.loader.exec_module(proxied)
    with answering(whole) as (url, asked):
        assert proxied.Api(url, "secret").get("/api/jobs") == {}
    assert b"Bearer secret" in asked[0]
