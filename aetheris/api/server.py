"""Serving: one socket, bound before anything is promised, and streams that end before the server does."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from aetheris.api.app import create_app
from aetheris.api.edge import HEADER_BYTES_LIMIT
from aetheris.api.service import Service
from aetheris.domain.errors import Unusable

GRACE_SECONDS = 5
CONNECTIONS = 1000


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs it has others to stop, too."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to `host` and `port` (0: any free one). Errors: Unusable, saying why."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, proto)
    except OSError as error:
        raise Unusable(f"api: {host!r} is no address to listen on ({(error.strerror or str(error)).lower()})") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        why = (error.strerror or str(error)).lower()
        raise Unusable(f"api: can't listen on {host}:{port} ({why}); choose another with --port or api.port") from None
    return made


async def serve(
    service: Service, listening: socket.socket, ready: Callable[[], None], stopped: Callable[[], None]
) -> None:
    """Answer requests until SIGINT, SIGTERM or `service.closing`; `stopped` is told at once."""
    server = _Server(
        uvicorn.Config(
            create_app(service),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # Whose address a proxy claims to pass on is not believed: audit entries hold who connected.
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=HEADER_BYTES_LIMIT,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )

    async def until_closing() -> None:
        await service.closing.wait()
        server.should_exit = True
        stopped()

    loop = asyncio.get_running_loop()
    # Signals come to the main thread; whoever serves in another closes by `service.closing`.
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    for number in signals:
        loop.add_signal_handler(number, service.closing.set)
    watching = asyncio.create_task(until_closing(), name="api closing")
    try:
        serving = asyncio.create_task(server.serve([listening]), name="api")
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        ready()
        await serving
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        watching.cancel()
        stopped()
