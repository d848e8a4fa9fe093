"""A server that speaks the chat completions protocol and answers what it is told to: for tests, benchmarks and trying.

Real HTTP on this machine alone, and no model behind it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Asked:
    """One question as it came in; `at` is this machine's monotonic clock, `number` counts from 1."""

    number: int
    at: float
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What is answered."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Asked], Said]


def text(
    content: str, *, received: int = 12, made: int = 5, finish: str = "stop", logprobs: Sequence[float] = ()
) -> Said:
    """Return an answer in words; `logprobs` of its tokens, where they were asked for."""
    said = _message({"role": "assistant", "content": content}, finish, received, made)
    if logprobs:
        said.body["choices"][0]["logprobs"] = {"content": [{"token": "?", "logprob": each} for each in logprobs]}
    return said


def calls(*asked: tuple[str, Any], received: int = 12, made: int = 5) -> Said:
    """Return an answer that asks for these calls, each (tool, arguments); arguments that are a str go as they are."""
    made_calls = [
        {
            "id": f"call_{n}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for n, (name, given) in enumerate(asked, 1)
    ]
    return _message({"role": "assistant", "content": None, "tool_calls": made_calls}, "tool_calls", received, made)


def refusal(status: int, message: str, **headers: str) -> Said:
    """Return an error as the protocol shapes it; `retry_after="2"` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said({"error": {"message": message, "type": "error"}}, status, named)


class ModelServer:
    """Serves `answer` on a free port; `asked` holds every question. Use as a context manager."""

    def __init__(self, answer: Answer | Sequence[Said]) -> None:
        script = answer if callable(answer) else None
        said = [] if callable(answer) else list(answer)
        self._answer: Answer = script or (lambda asked: said[min(asked.number, len(said)) - 1])
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """What `base_url` is to be."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, headers: Mapping[str, str], body: dict[str, Any]) -> Said:
        """Note a question and return what is answered."""
        with self._lock:
            asked = Asked(len(self.asked) + 1, time.monotonic(), headers, body)
            self.asked.append(asked)
        return self._answer(asked)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Answer one question."""
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                said = refusal(404, f"no {self.path} here")
            else:
                said = server.take({k.lower(): v for k, v in self.headers.items()}, body)
            content = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is logged."""

    return Handler


def _message(message: dict[str, Any], finish: str, received: int, made: int) -> Said:
    return Said(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "test-model-2026",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": received, "completion_tokens": made, "total_tokens": received + made},
        }
    )
