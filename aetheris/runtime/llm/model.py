"""Models as tools of a kind: one question is one call, recorded, limited and retried as any call is.

Its effect is `idempotent`. Asking again changes nothing in the world, so a
question whose answer was lost is asked anew under the same key; but the prompt
leaves the house, and its tokens are paid for, so the start record is durable
before it does: the log never lacks a question that was asked.

The line of the start names provider, model and the tokens reserved; that of
the end the tokens used. Prompt, tool definitions and answer are cells.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field

from aetheris.domain.decisions import FINISH_REASONS, MODEL_PREFIX
from aetheris.runtime import config
from aetheris.runtime.llm.endpoint import Endpoint, ModelBusy, ModelDown, ModelFailed
from aetheris.runtime.llm.replies import Stored
from aetheris.runtime.tools import Call, Tool

RETRY_FIRST_SECONDS = 0.5
RETRY_LONGEST_SECONDS = 60.0
#: JSON bytes that make a token, roughly; what an answer says corrects it.
BYTES_PER_TOKEN = 4
#: No answer uses more: an endpoint that says so is not believed, or its word would close the budget for years.
TOKENS_MOST = 100_000_000


class Message(BaseModel):
    """One message; whatever else an endpoint takes passes as it is."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]


Temperature = Annotated[float, Field(ge=0, le=2)]
Positive = Annotated[int, Field(ge=1)]


class Llm(Tool[Any, Stored]):
    """One named model. Without an endpoint it can only be replayed."""

    kind = "llm"

    def __init__(self, name: str, endpoint: Endpoint | None) -> None:
        keys = endpoint.keys if endpoint is not None else None
        super().__init__(
            _question,
            name=f"{MODEL_PREFIX}{name}",
            effect="idempotent",
            timeout=timedelta(seconds=keys.timeout) if keys is not None else None,
            retries=keys.retries if keys is not None else 0,
        )
        self.model_name, self.endpoint, self._keys = name, endpoint, keys

    @property
    def budget(self) -> str:
        """Its provider: that is whose limits count."""
        return self._keys.provider if self._keys is not None else self.model_name

    def lacking(self) -> str:
        """Return what is wanting here before it can be asked, or ""."""
        if self.endpoint is None:
            return f"no model {self.model_name!r} is configured here; name it under models: in aetheris.yaml"
        return self.endpoint.lacking()

    def tokens(self, arguments: Mapping[str, Any]) -> int:
        """Return how many tokens a question is thought to use, its answer included."""
        if self._keys is None:
            return 0
        asked = arguments.get("max_output_tokens") or self._keys.expected_output_tokens
        return _tokens_in(self._body(arguments)) + min(asked, self._keys.expected_output_tokens)

    def start_data(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Whom it asks, and what was reserved for it."""
        if self._keys is None:
            return {}
        data = {"kind": "llm", "llm_model": self._keys.model, "llm_provider": self._keys.provider}
        return {**data, "reserved_tokens": self.tokens(arguments)}

    def end_data(self, value: Any) -> dict[str, Any]:
        """What it used, by the endpoint's own count, and how the answer ended."""
        data = {"input_tokens": value.input_tokens, "llm_model": value.model, "output_tokens": value.output_tokens}
        # A line is not the place for an endpoint's own words.
        data["finish_reason"] = value.finish_reason if value.finish_reason in FINISH_REASONS else "other"
        return data if value.confidence_ppm is None else data | {"confidence_ppm": value.confidence_ppm}

    def failure_data(self, error: BaseException) -> dict[str, Any]:
        """HTTP's status, where there was one."""
        return {"http_status": error.status} if isinstance(error, ModelFailed) and error.status else {}

    def span_data(self) -> dict[str, Any]:
        """Whom it asks, and where."""
        if self._keys is None:
            return super().span_data()
        url = urlsplit(self._keys.base_url)
        return {
            "gen_ai.provider.name": self._keys.provider,
            "gen_ai.request.model": self._keys.model,
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
        }

    def used(self, value: Any) -> int:
        """Tokens in and out."""
        return int(value.input_tokens + value.output_tokens)

    def holds(self, error: BaseException) -> float:
        """Retry-After of a 429 or 503 is said to whoever uses this key, not to one call."""
        return (error.retry_after_seconds or 0.0) if isinstance(error, ModelBusy) else 0.0

    def again_after(self, error: BaseException, attempt: int) -> float | None:
        """As Retry-After says, else after waits that double; never for what is refused."""
        if attempt > self.retries or (isinstance(error, ModelFailed) and not error.again):
            return None
        asked = error.retry_after_seconds if isinstance(error, ModelFailed) else None
        # Never sooner than asked; a little later, so that many that were sent away don't come back together.
        doubled: float = min(RETRY_FIRST_SECONDS * 2 ** (attempt - 1), RETRY_LONGEST_SECONDS)
        return asked + random.random() * 0.1 if asked is not None else doubled * (1 + random.random() / 2)

    async def run(self, call: Call, arguments: dict[str, Any]) -> Stored:
        """Ask once. Errors: ModelBusy, ModelDown, ModelRefused."""
        assert self.endpoint is not None  # whoever begins a question has asked what is lacking
        body = self._body(arguments)
        # The same key for one attempt, also when it is made again after a crash; another for the next.
        headers = {"Idempotency-Key": f"{call.key}-{call.attempt}"}
        if call.traceparent:
            headers["traceparent"] = call.traceparent
        answer = await self.endpoint.ask(body, headers)
        return _stored(answer, body, self.endpoint.keys)

    def _body(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        assert self._keys is not None
        given = {k: arguments.get(k) for k in ("temperature", "tool_choice", "response_format")}
        body: dict[str, Any] = dict(arguments.get("extra") or {})
        body |= {"model": self._keys.model, "messages": [m.model_dump() for m in arguments["messages"]]}
        if arguments.get("definitions"):
            body["tools"] = arguments["definitions"]
        if (most := arguments.get("max_output_tokens")) is not None:
            body[self._keys.max_output_field] = most
        return body | {k: v for k, v in given.items() if v is not None}


class Models:
    """The models that a worker can ask, by name; of others it knows the name alone."""

    def __init__(self, keys: Mapping[str, config.Model] | None = None) -> None:
        self._endpoints = {name: Endpoint(name, each) for name, each in (keys or {}).items()}
        self._made: dict[str, Llm] = {}

    @property
    def offers(self) -> list[str]:
        """The capabilities that a worker has by them."""
        return [f"llm:{name}" for name in sorted(self._endpoints)]

    def get(self, name: str) -> Llm:
        """Return the model of this name; one that is not configured has no endpoint."""
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = Llm(name, self._endpoints.get(name))
        return made

    async def close(self) -> None:
        """Let go of all connections."""
        for endpoint in self._endpoints.values():
            await endpoint.close()


def _question(
    messages: list[Message],
    tools: list[str] = [],  # noqa: B006  read as a default of the schema alone
    temperature: Temperature | None = None,
    max_output_tokens: Positive | None = None,
    tool_choice: str | dict[str, Any] | None = None,
    response_format: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
) -> Stored:
    """The arguments of a question, and its result, as types; never called."""
    raise NotImplementedError


def _tokens_in(value: Any) -> int:
    return -(-len(orjson.dumps(value)) // BYTES_PER_TOKEN)


def _stored(answer: dict[str, Any], body: dict[str, Any], keys: config.Model) -> Stored:
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ModelDown(f"{keys.base_url} answers without a message", status=200)
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    # An endpoint that counts nothing (or nonsense) is taken by the same rough measure as the reservation.
    guessed = (_tokens_in(body), _tokens_in(message))
    known = [c if type(c) is int and 0 <= c <= TOKENS_MOST else g for c, g in zip(counts, guessed, strict=True)]
    return Stored(
        message={"role": "assistant", **message},
        finish_reason=str(choice.get("finish_reason") or ""),
        model=str(answer.get("model") or keys.model),
        input_tokens=known[0],
        output_tokens=known[1],
        confidence_ppm=_confidence_ppm(choice.get("logprobs")),
    )


def _confidence_ppm(logprobs: Any) -> int | None:
    """Return the geometric mean of the tokens' probabilities, in millionths; None without them."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    found = [token.get("logprob") for token in content if isinstance(token, dict)] if isinstance(content, list) else []
    known = [float(each) for each in found if isinstance(each, int | float) and each <= 0]
    return round(math.exp(sum(known) / len(known)) * 1e6) if known and len(known) == len(found) else None
