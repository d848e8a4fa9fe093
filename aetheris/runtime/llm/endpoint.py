"""One endpoint of the chat completions protocol: a question in, an answer out, errors by what to do about them.

    429          ModelBusy      asked again after what Retry-After says, else after a wait that doubles
    5xx, 408,    ModelDown      asked again after a wait that doubles
    no answer
    other 4xx    ModelRefused   asked never again: the question must change
    2xx, odd     ModelDown      an answer that is none

The key is read for each question, from the environment or a file, so that a
new one holds at once. It goes into one header and nowhere else; an endpoint
that repeats it in a message has it taken out.

Source: the chat completions API as OpenAI documents it; RFC 9110, 10.2.3 (Retry-After).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

from aetheris.runtime import config

if TYPE_CHECKING:
    import httpx

ANSWER_BYTES_LIMIT = 32_000_000
MESSAGE_LIMIT = 1000
CONNECT_SECONDS = 10.0
#: A provider that asks for more patience than this is taken as refusing.
RETRY_AFTER_MOST_SECONDS = 3600.0


class ModelFailed(Exception):
    """An endpoint did not answer the question. `status` is HTTP's, 0 without one."""

    again = True

    def __init__(self, message: str, *, status: int = 0, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_seconds = status, retry_after_seconds


class ModelBusy(ModelFailed):
    """It has too much to do: try again later."""


class ModelDown(ModelFailed):
    """It failed, or nothing that could be read came back: try again."""


class ModelRefused(ModelFailed):
    """It won't answer this question, however often it is asked."""

    again = False


class Endpoint:
    """Asks one configured model. `close` lets go of its connections."""

    def __init__(self, name: str, keys: config.Model) -> None:
        self.name, self.keys = name, keys
        self._client: httpx.AsyncClient | None = None

    def lacking(self) -> str:
        """Return what is wanting before anything can be asked, or ""."""
        try:
            self._key()
        except ModelFailed as error:
            return str(error)
        return ""

    async def ask(self, body: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        """Return the endpoint's answer. Errors: ModelBusy, ModelDown, ModelRefused."""
        import httpx

        key = self._key()
        if self._client is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
            # Its time is bounded from outside, by the call's own limit.
            self._client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=CONNECT_SECONDS), limits=limits)
        sent = {"Content-Type": "application/json", **headers, **({"Authorization": f"Bearer {key}"} if key else {})}
        url = f"{self.keys.base_url}/chat/completions"
        try:
            async with self._client.stream("POST", url, content=orjson.dumps(body), headers=sent) as answer:
                content = bytearray()
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > ANSWER_BYTES_LIMIT:
                        raise ModelDown(f"{url} answers more than {ANSWER_BYTES_LIMIT:,} bytes")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ModelDown(f"{url}: {type(error).__name__}: {_safe(str(error), key)}") from None
        value = _json(bytes(content))
        if answer.status_code != 200:
            raise _failure(url, answer.status_code, answer.headers, value, key)
        if not isinstance(value, dict):
            raise ModelDown(f"{url} answers something other than JSON", status=200)
        return value

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _key(self) -> str:
        if self.keys.api_key_env is not None:
            key = os.environ.get(self.keys.api_key_env, "")
            where = f"{self.keys.api_key_env} is not set"
        elif self.keys.api_key_file is not None:
            try:
                key = self.keys.api_key_file.read_text().strip()
                where = f"{self.keys.api_key_file} is empty"
            except (OSError, UnicodeDecodeError) as error:
                key, where = "", f"{self.keys.api_key_file} can't be read ({type(error).__name__})"
        else:
            return ""
        if not key:
            raise ModelRefused(f"no key for models.{self.name}: {where}")
        if not key.isascii() or not key.isprintable():
            raise ModelRefused(f"the key for models.{self.name} holds what no header can carry")
        return key


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _failure(url: str, status: int, headers: Mapping[str, str], value: Any, key: str) -> ModelFailed:
    error = value.get("error") if isinstance(value, dict) else None
    told = error.get("message") if isinstance(error, dict) else error
    message = f"{url} answers {status}" + (f": {_safe(told, key)}" if isinstance(told, str) and told else "")
    if status == 429 or (status == 503 and "retry-after" in headers):
        wait = retry_after(headers, datetime.now(UTC))
        if wait is not None and wait > RETRY_AFTER_MOST_SECONDS:
            return ModelRefused(f"{message} (try again in {wait:.0f} s: too long to wait)", status=status)
        return ModelBusy(message, status=status, retry_after_seconds=wait)
    if status >= 500 or status == 408:
        return ModelDown(message, status=status)
    return ModelRefused(message, status=status)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that Retry-After asks for, from a number or a date; None without one that makes sense."""
    given = headers.get("retry-after", "").strip()
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(given) - now).total_seconds()
        except (ValueError, TypeError):
            return None
        seconds = max(seconds, 0.0)
    return seconds if 0 <= seconds < float("inf") else None


def _safe(message: str, key: str) -> str:
    clean = message.replace(key, "***") if key else message
    return " ".join(clean.split())[:MESSAGE_LIMIT]
