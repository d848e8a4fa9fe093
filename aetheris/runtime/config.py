"""Configuration: the keys of `aetheris.yaml`, what each means, and the digest of what is in force.

A limit applies only where it is written: a tool that is named has the limits
of its own entry, any other those of `_default`, and without either it is not
limited. Keys that nobody knows, and values that make no sense, are refused.
Secrets come from the environment, are never shown, and are no part of the
digest: a digest of a secret could be guessed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from aetheris.domain import canonical
from aetheris.domain.durations import seconds_of
from aetheris.domain.limits import QPS_MOST, Limit

DAY_SECONDS = 86_400.0
#: The password of a connection string, in either of its spellings.
_PASSWORD = re.compile(r"(?<=:)(?<!://)[^:/@\s]+(?=@)|(?<=password=)[^\s&]+")
#: Environment variable -> the key that it overrides.
SECRETS = {
    "AETHERIS_DSN": "jobstore.dsn",
    "AETHERIS_JWT_KEY": "api.middleware.jwt_key",
    "AETHERIS_EVIDENCE_SIGNING_PRIVATE_KEY": "security.evidence_signing.private_key_base64",
}

Duration = Annotated[float, BeforeValidator(seconds_of), Field(gt=0, le=366 * DAY_SECONDS)]
Port = Annotated[int, Field(strict=True, ge=0, le=65_535)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]
Rate = Annotated[float, Field(gt=0, le=QPS_MOST, allow_inf_nan=False)]


def _address(url: str) -> str:
    # The key goes in a header; an address is shown in messages and stands in the digest.
    if "@" in url.split("/", 3)[2]:
        raise ValueError("an address without a name or password in it; the key comes from the environment or a file")
    return url.rstrip("/")


Address = Annotated[str, Field(pattern=r"^https?://[!-~]{1,500}$"), AfterValidator(_address)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolLimit(_Section):
    """rate_limits.tools.NAME"""

    qps: Rate | None = None
    burst: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 1
    max_concurrent: Count | None = None
    scope: Literal["deployment", "tenant"] = "deployment"
    max_wait: Duration | None = None

    def limit(self) -> Limit:
        """Return it as the limiter takes it."""
        return Limit(self.qps, self.burst, self.max_concurrent, self.scope, self.max_wait)


class LlmLimit(_Section):
    """rate_limits.llm.PROVIDER; a reservation never runs ahead of both rates"""

    tokens_per_minute: Count | None = None
    requests_per_minute: Count | None = None
    max_concurrent: Count | None = None
    scope: Literal["deployment", "tenant"] = "deployment"
    max_wait: Duration | None = None

    def limit(self) -> Limit:
        """Return the limit on requests and tokens, as the limiter takes it."""
        qps = self.requests_per_minute / 60 if self.requests_per_minute else None
        return Limit(qps, 1, self.max_concurrent, self.scope, self.max_wait, self.tokens_per_minute)


class RateLimits(_Section):
    """rate_limits"""

    tools: dict[Name, ToolLimit] = {}
    llm: dict[Name, LlmLimit] = {}

    def find(self, kind: str, name: str) -> Limit | None:
        """Return the limit on calls of this name: its own entry's, else `_default`'s, else none."""
        entries: Mapping[str, ToolLimit | LlmLimit] = self.tools if kind == "tool" else self.llm
        entry = entries.get(name) or entries.get("_default")
        return entry.limit() if entry is not None else None


class Model(_Section):
    """models.NAME: what `ctx.llm(NAME)` asks, by the chat completions protocol"""

    provider: Name
    base_url: Address
    model: Annotated[str, Field(min_length=1, max_length=200)]
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    api_key_file: Path | None = None
    timeout: Duration = 120.0
    retries: Annotated[int, Field(strict=True, ge=0, le=100)] = 5
    expected_output_tokens: Count = 300
    max_output_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("either api_key_env or api_key_file, not both")
        return self


class JobStore(_Section):
    """jobstore"""

    type: Literal["postgres", "embedded"] = "postgres"
    dsn: SecretStr | None = None
    lease_duration: Annotated[float, BeforeValidator(seconds_of), Field(ge=1, le=3600)] = 30.0


class WorkerKeys(_Section):
    """worker"""

    concurrency: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 100
    poll_interval: Annotated[float, BeforeValidator(seconds_of), Field(ge=0.05, le=3600)] = 2.0
    capabilities: list[str] = []


class Snapshots(_Section):
    """runtime.snapshot"""

    enabled: Flag = True
    interval: Duration = 3600.0
    event_threshold: Count = 1000
    batch_limit: Count = 50
    keep_latest: Count = 1


class Collection(_Section):
    """runtime.gc"""

    enabled: Flag = True
    interval: Duration = DAY_SECONDS
    ttl_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] = 90
    batch_size: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 1000


class Runtime(_Section):
    """runtime"""

    snapshot: Snapshots = Snapshots()
    gc: Collection = Collection()


class Middleware(_Section):
    """api.middleware"""

    auth: Flag = True
    #: Exactly one place where keys come from: this secret (HS256), a file, or an address.
    jwt_key: SecretStr | None = None
    jwt_keys_file: str | None = None
    jwt_jwks_url: Annotated[str, Field(pattern=r"^https?://[!-~]{1,2000}$")] | None = None
    #: What a token must be signed with; whatever its own header says.
    jwt_algorithm: Literal["HS256", "RS256", "ES256", "EdDSA"] | None = None
    jwt_issuer: str | None = None
    jwt_audience: str = "aetheris"
    jwt_leeway: Annotated[float, BeforeValidator(seconds_of), Field(ge=0, le=60)] = 5.0
    #: How long the tokens of `aetheris token` live.
    jwt_timeout: Duration = 3600.0
    rate_limit: Flag = True
    rate_limit_rps: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = 100.0


class Api(_Section):
    """api"""

    port: Port = 8080
    host: str = "0.0.0.0"
    timeout: Duration = 30.0
    max_body_bytes: Annotated[int, Field(strict=True, ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    #: Live streams of one tenant at once.
    max_streams: Count = 100
    middleware: Middleware = Middleware()


class EvidenceSigning(_Section):
    """security.evidence_signing"""

    enabled: Flag = False
    key_id: Name = "default"
    private_key_base64: SecretStr | None = None


class Security(_Section):
    """security"""

    evidence_signing: EvidenceSigning = EvidenceSigning()


class Prometheus(_Section):
    """monitoring.prometheus"""

    enable: Flag = True
    host: str = "127.0.0.1"
    port: Port = 9093


class Tracing(_Section):
    """monitoring.tracing"""

    enable: Flag = False
    service_name: Name = "aetheris"
    export_endpoint: Address | None = None


class Monitoring(_Section):
    """monitoring"""

    prometheus: Prometheus = Prometheus()
    tracing: Tracing = Tracing()


class Config(_Section):
    """The whole file."""

    rate_limits: RateLimits = RateLimits()
    models: dict[Name, Model] = {}
    jobstore: JobStore = JobStore()
    worker: WorkerKeys = WorkerKeys()
    runtime: Runtime = Runtime()
    api: Api = Api()
    security: Security = Security()
    monitoring: Monitoring = Monitoring()

    @property
    def dsn(self) -> str | None:
        """Return the connection string that is set, if a server of one's own is wanted."""
        if self.jobstore.type == "embedded" or self.jobstore.dsn is None:
            return None
        return self.jobstore.dsn.get_secret_value()

    def secrets(self, environ: Mapping[str, str]) -> list[str]:
        """Return every secret that this process was given, so that its logs can leave them out."""
        dsn = self.dsn or ""
        keys = (self.api.middleware.jwt_key, self.security.evidence_signing.private_key_base64)
        held = [dsn, *_PASSWORD.findall(dsn), *(key.get_secret_value() for key in keys if key)]
        return held + [environ.get(m.api_key_env, "") for m in self.models.values() if m.api_key_env is not None]

    @property
    def sha256(self) -> str:
        """Digest of what is set, in canonical form, without secrets; of nothing set, that of an empty object."""
        return hashlib.sha256(canonical.dumps(self.written())).hexdigest()

    def written(self) -> dict[str, Any]:
        """Return what is set, without secrets; numbers with a fraction as decimal strings."""
        found = _plain(self.model_dump(exclude_unset=True))
        return found if isinstance(found, dict) else {}

    def shown(self) -> dict[str, Any]:
        """Return every key with its value in force; a secret only as set or not."""
        shown: dict[str, Any] = self.model_dump(mode="python")
        return {k: _masked(v) for k, v in shown.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: _plain(v) for k, v in value.items() if not isinstance(v, SecretStr)}
        return {k: v for k, v in kept.items() if v != {}}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else repr(value)
    return value


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _masked(v) for k, v in value.items()}
    if isinstance(value, Path):
        return str(value)
    return "(set, not shown)" if isinstance(value, SecretStr) else value
