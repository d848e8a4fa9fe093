"""What an API answers, as our errors; and what a session over one refuses by itself."""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aetheris.domain.errors import AetherisError, Conflict, Corrupt, Denied, Refused, Unusable
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


def test_a_token_for_this_machine_passes_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over plain http the proxy would read it: a token is never sent in the clear to another machine."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    spec = importlib.util.find_spec("aetheris.forensics.remote")
    assert spec is not None
    assert spec.loader is not None
    remote = importlib.util.module_from_spec(spec)  # as a process loads it whose environment names the proxy
    spec.loader.exec_module(remote)
    with answering(whole) as (url, asked):
        assert remote.Api(url, "secret").get("/api/jobs") == {}
    assert b"Bearer secret" in asked[0]
