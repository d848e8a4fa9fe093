"""The API by its URL: one small client, and a session whose queries run there, over the token's tenant alone.

The token comes from AETHERIS_TOKEN and goes into one header; it is never in an
address, and never sent in the clear to another machine. Whoever answers there
may be somebody else, or mean harm: no answer is held beyond a limit, and one
that is cut off is none.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit

import pyarrow as pa

from aetheris.domain.errors import AetherisError, Conflict, Corrupt, Denied, Refused, Unusable
from aetheris.forensics import library
from aetheris.forensics.receipts import Receipt
from aetheris.forensics.session import Answer, Session

ARROW = "application/vnd.apache.arrow.stream"
SECONDS = 60.0
#: What is held of an answer in memory: a trace of 300,000 lines. Exports go to a file as they come.
ANSWER_BYTES_LIMIT = 64 * 1024 * 1024
#: Of a table, which a notebook asks for to hold it.
TABLE_BYTES_LIMIT = 1024 * 1024 * 1024
ERROR_BYTES_LIMIT = 1024 * 1024
PART_BYTES = 256 * 1024
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Api:
    """One API, asked with one token. Errors are those that a direct call would have raised."""

    def __init__(self, url: str, token: str | None = None) -> None:
        url = url.strip()
        try:
            place = urlsplit(url)
            host, _ = (place.hostname or "").encode("idna"), place.port
        except ValueError:  # a bracket without an end, a port that is no number, a name too long for a host
            raise _no_address(url) from None
        if place.scheme not in ("http", "https") or not host or not place.path.isascii() or not _is_plain(url):
            raise _no_address(url)
        if place.username or place.password:
            raise Refused("the API's address holds a password: the token goes into AETHERIS_TOKEN")
        if place.scheme == "http" and place.hostname not in LOOPBACK:
            raise Refused(f"{url}: a token is not sent over plain http to another machine; use https")
        self.url = url.rstrip("/")
        self._opener = _opener()
        self._token = (token if token is not None else os.environ.get("AETHERIS_TOKEN", "")).strip()
        if not self._token.isascii() or any(c.isspace() for c in self._token):
            raise Refused("AETHERIS_TOKEN holds what no token does (spaces, or letters beyond ASCII)")

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at `path`."""
        given = urlencode({k: v for k, v in query.items() if v is not None}, doseq=True)
        return self._json(self.ask("GET", f"{path}?{given}" if given else path)[0])

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Send `body` and return the JSON that comes back; `key` is an idempotency key."""
        if key and not (key.isprintable() and max(key) <= "\xff"):
            raise Refused(f"key {key[:60]!r}: over the API a key goes into a header, which can't hold that; use ASCII")
        return self._json(self.ask("POST", path, body or {}, {"Idempotency-Key": key} if key else {})[0])

    def _json(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise self.other("something else than JSON") from None

    def other(self, what: str) -> Unusable:
        """Return the error for an answer that is none of Aetheris's; `what` says what it is."""
        return Unusable(f"{self.url} answers {what}: is it an Aetheris API? AETHERIS_URL is to name one")

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        limit: int = ANSWER_BYTES_LIMIT,
    ) -> tuple[bytes, dict[str, str]]:
        """Return an answer's body and headers. Errors: Denied, Refused, Conflict, Corrupt, Unusable."""
        status, data, told = self.answer(method, path, body, headers, limit=limit)
        if status >= 300:
            raise self._refused(status, data, told)
        return data, told

    def answer(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        limit: int = ANSWER_BYTES_LIMIT,
    ) -> tuple[int, bytes, dict[str, str]]:
        """Return an answer's status, body and headers, whatever the status. Errors: Unusable."""
        with self._opened(method, path, body, headers) as came:
            data = _of_error(came) if came.status >= 300 else b"".join(self._parts(came, limit))
            return came.status, data, _headers(came)

    def download(self, path: str, out: BinaryIO, *, limit: int | None = None) -> dict[str, str]:
        """Write what POST to `path` brings to `out` as it comes; return the headers. Errors: as `ask`.

        At an error `out` may hold a part of it.
        """
        with self._opened("POST", path, {}, {"Accept": "*/*"}) as came:
            if came.status >= 300:
                raise self._refused(came.status, _of_error(came), _headers(came))
            for part in self._parts(came, limit):
                out.write(part)
            return _headers(came)

    @contextlib.contextmanager
    def _opened(self, method: str, path: str, body: Any, headers: dict[str, str] | None) -> Iterator[Any]:
        sent = {"Accept": "application/json", **(headers or {})}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        with self._reaching():
            try:
                came = self._opener.open(request, timeout=SECONDS)
            except urllib.error.HTTPError as error:
                came = error  # an answer, too
        with came:
            yield came

    def _parts(self, came: Any, limit: int | None) -> Iterator[bytes]:
        """Yield a body as it comes. Errors: Unusable where it is cut off, or longer than `limit`."""
        count = 0
        while True:
            with self._reaching():  # and not whatever is done with a part: that may be a full disk
                part = came.read(PART_BYTES)
                if not part and came.length:  # a read of so many bytes says nothing of those that are missing
                    raise http.client.IncompleteRead(b"", came.length)
            if not part:
                return
            count += len(part)
            if limit is not None and count > limit:
                raise Unusable(f"{self.url} answers more than the {limit:,} bytes that are taken; ask for less of it")
            yield part

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except http.client.HTTPException:
            raise Unusable(f"{self.url} sends no whole HTTP answer; is it an Aetheris API, and not cut off?") from None
        except (urllib.error.URLError, OSError, ssl.SSLError) as error:
            cause = getattr(error, "reason", error)
            why = str(getattr(cause, "strerror", None) or cause).lower()  # without the number of the system's error
            raise Unusable(f"can't reach {self.url} ({why}); is `aetheris serve` running there?") from None

    def _refused(self, status: int, body: bytes, headers: dict[str, str]) -> AetherisError:
        if status < 400:
            to = f" to {headers['location'][:200]!r}" if "location" in headers else ""
            return Refused(
                f"{self.url} redirects{to}: a token is not sent on; put the API's own address into AETHERIS_URL"
            )
        return _error(status, body)


def _headers(came: Any) -> dict[str, str]:
    return {k.lower(): v for k, v in came.headers.items()}


def _of_error(came: Any) -> bytes:
    with contextlib.suppress(OSError, http.client.HTTPException):  # cut off: the status is an answer by itself
        return bytes(came.read(ERROR_BYTES_LIMIT))
    return b""


def _no_address(url: str) -> Refused:
    return Refused(f"{url[:200]}: no API's address; give https://HOST")


def _is_plain(url: str) -> bool:
    return url.isprintable() and not any(c in url for c in " ?#")  # paths are put behind it


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def _opener() -> urllib.request.OpenerDirector:
    # Plain http is for this machine alone, and a proxy would read the token; through one for https goes a tunnel.
    proxies = {scheme: proxy for scheme, proxy in urllib.request.getproxies().items() if scheme != "http"}
    return urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler(proxies))


def _error(status: int, body: bytes) -> AetherisError:
    """Return what a status means, in the API's words; in ours where whoever answers is none of Aetheris's."""
    who = f"whoever is at AETHERIS_URL answered {status}, and not as an Aetheris API does"
    try:
        said = json.loads(body)
        told = said["detail"]
        if not isinstance(told, str):
            raise TypeError
        if "request_id" not in said:  # so do many who are no Aetheris
            told = f"{told} ({who})"
    except (ValueError, KeyError, TypeError, RecursionError):
        told = f"{who}; is it the right address?"
        status = 503 if status == 500 else status  # nothing of ours is broken
    match status:
        case 401:
            return Denied(
                f"{told.partition(';')[0]}: put one into AETHERIS_TOKEN (`aetheris token` makes one for development)"
            )
        case 403:
            return Denied(told)
        case 409:
            return Conflict(told)
        case 500:
            return Corrupt(told)
        case 503 | 504:
            return Unusable(told)
        case _:
            return Refused(told)


class RemoteSession(Session):
    """Named queries over a lake that an API holds; what its token's tenant may see."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.name = api.url
        self.source_sha256 = ""
        self.assurance = f"read through {api.url}"

    def close(self) -> None:
        """Nothing is held open."""

    def query(self, name: str, /, **parameters: Any) -> Answer:
        """Run a named query there. Errors: as `Session.query`, and Denied."""
        query = library.get(name)
        if odd := sorted(parameters.keys() - set(query.binds)):
            raise Refused(f"query {name} has no parameter {odd[0]!r}")
        body, headers = self.api.ask(
            "POST",
            f"/api/forensics/queries/{name}",
            {"parameters": parameters},
            {"Accept": ARROW},
            limit=TABLE_BYTES_LIMIT,
        )
        try:
            with pa.ipc.open_stream(body) as reader:
                table = reader.read_all()
        except (pa.ArrowException, OSError):
            raise self.api.other("something else than a table") from None
        told = {field: headers.get(f"x-receipt-{field.replace('_', '-')}", "") for field in _RECEIPT}
        receipt = Receipt(told["query"], told["query_sha256"], told["parameters"], told["source_sha256"])
        return Answer(table, query, receipt)

    def sql(self, text: str, **parameters: Any) -> Answer:
        """Refuse: free SQL runs where the lake is."""
        raise Refused("free SQL needs the lake's folder; through the API there are named queries (`query(name)`)")


_RECEIPT = ("query", "query_sha256", "parameters", "source_sha256")
