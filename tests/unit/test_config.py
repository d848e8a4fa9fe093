"""The configuration: what is refused and where, what the digest binds, and that secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from aetheris.domain.errors import Refused
from aetheris.runtime.config_file import Loaded, Watch, load
from aetheris.runtime.submit import EMPTY_CONFIG_SHA256

REFUSED = {
    "unknown key": ("worker:\n  concurency: 4\n", ":2: worker.concurency: no such key; did you mean concurrency?"),
    "unknown section": ("wroker:\n  a: 1\n", ":1: wroker: no such key; did you mean worker?"),
    "negative rate": ("rate_limits:\n  tools:\n    x:\n      qps: -1\n", ":4: rate_limits.tools.x.qps: expected"),
    "zero rate": ("rate_limits:\n  tools:\n    x: {qps: 0}\n", ":3: rate_limits.tools.x.qps: expected greater than 0"),
    "absurd rate": ("rate_limits:\n  tools:\n    x:\n      qps: 1e9\n", ":4: rate_limits.tools.x.qps: expected less"),
    "not a number": ("rate_limits:\n  tools:\n    x: {qps: .nan}\n", ":3: rate_limits.tools.x.qps: expected a finite"),
    "half a burst": ("rate_limits:\n  tools:\n    x: {burst: 1.5}\n", "x.burst: expected a valid integer"),
    "a word for a number": ("worker:\n  concurrency: yes\n", ":2: worker.concurrency: expected a valid integer"),
    "odd scope": ("rate_limits:\n  tools:\n    x: {scope: world}\n", "scope: expected 'deployment' or 'tenant'"),
    "odd duration": ("worker:\n  poll_interval: 3 parsecs\n", ":2: worker.poll_interval: expected a duration such as"),
    "a value for a section": ("worker: 3\n", ":1: worker: expected keys below it (capabilities, concurrency"),
    "a key twice": ("worker:\n  concurrency: 3\n  concurrency: 4\n", ":3: worker.concurrency stands twice, first on"),
    "an alias": ("worker: &a\n  concurrency: 3\napi: *a\n", ":3: not YAML (aliases are not used here"),
    "broken YAML": ("worker: [\n", "not YAML"),
    "a list": ("- worker\n", ":1: expected keys"),
    "a key that is a list": ("? [a, b]\n: c\n", ":1: a key must be a word"),
    "a key in an address": (
        "models:\n  desk:\n    provider: p\n    model: m\n    base_url: https://me:hush@x/v1\n",
        ":5: models.desk.base_url: an address without a name or password in it; the key comes from the environment or a"
        " file, found `https://***@x/v1`",
    ),
    "two places for a key": (
        "models:\n  desk: {provider: p, base_url: 'http://x', model: m, api_key_env: A, api_key_file: b}\n",
        ":2: models.desk: either api_key_env or api_key_file, not both",
    ),
    "a key itself": (
        "models:\n  desk:\n    provider: p\n    base_url: http://x\n    model: m\n    api_key: sk-1\n",
        ":6: models.desk.api_key: no such key; did you mean api_key_",
    ),
    "a model without an address": (
        "models:\n  desk: {provider: p, model: m}\n",
        ":2: models.desk.base_url: is not there, and must be",
    ),
    "a DSN that is none": (
        "jobstore:\n  dsn: host=db hush\n",
        ":2: jobstore.dsn is not a PostgreSQL connection string (postgresql://user@host/db)",
    ),
    "a key that is a number": (
        "api:\n  middleware:\n    jwt_key: 4815162342\n",
        ":3: api.middleware.jwt_key: expected a valid string, found `***`",
    ),
    "a section that is a DSN": ("jobstore: host=db password=hush\n", "(dsn, lease_duration, type), found `***`"),
    "a tag that doesn't fit": ("worker:\n  concurrency: !!bool q\n", ":2: `q` can't be read as a value"),
    "a number beyond any float": (f"worker: {{poll_interval: {'9' * 400}}}\n", ":1: worker.poll_interval: expected a"),
    "a number beyond any screen": (f"worker:\n  concurrency: 0x{'f' * 5000}\n", ":2: `0xfff"),
    "half of a pair": ('worker:\n  capabilities: ["\\ud800"]\n', ":2: `"),
    "no tokens at all": (
        "rate_limits:\n  llm:\n    p: {tokens_per_minute: 0}\n",
        ":3: rate_limits.llm.p.tokens_per_minute: expected greater",
    ),
    "a name that no line can hold": ('rate_limits:\n  tools:\n    "a\\nb": {qps: 1}\n', ":3: rate_limits.tools.a"),
}  # fmt: skip


def written(folder: Path, text: str) -> Path:
    """A file of that text."""
    path = folder / "aetheris.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_with_line_and_key(name: str, tmp_path: Path) -> None:
    """An operator mends a file by its line, at start, not by a limit that silently doesn't hold."""
    text, said = REFUSED[name]
    with pytest.raises(Refused) as refused:
        load(written(tmp_path, text), {})
    assert said in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "aetheris.yaml"))
    assert len(str(refused.value).splitlines()) == 1


def test_nothing_set_has_the_digest_of_the_empty_configuration(tmp_path: Path) -> None:
    """A job's first event says that nothing was set, and an empty file sets nothing."""
    assert load(written(tmp_path, "# nothing\n"), {}).config.sha256 == EMPTY_CONFIG_SHA256


def test_the_digest_binds_what_is_set_and_not_how_it_is_written(tmp_path: Path) -> None:
    """Comments and order don't change what is in force; a number does."""
    one = load(written(tmp_path, "rate_limits:\n  tools:\n    a: {qps: 0.5, burst: 2}\n"), {}).config.sha256
    two = load(written(tmp_path, "rate_limits: {tools: {a: {burst: 2, qps: 0.50}}} # same\n"), {}).config.sha256
    other = load(written(tmp_path, "rate_limits: {tools: {a: {burst: 2, qps: 0.51}}}\n"), {}).config.sha256
    assert one == two != other


def test_secrets_come_from_the_environment_and_are_never_shown(tmp_path: Path) -> None:
    """A digest of a password could be guessed, and a screen is read by others."""
    path = written(tmp_path, "jobstore:\n  dsn: postgresql://in-file\n")
    plain = load(path, {}).config
    config = load(path, {"AETHERIS_DSN": "postgresql://me:hunter2@db/x", "AETHERIS_JWT_KEY": "topsecret"}).config
    assert config.dsn == "postgresql://me:hunter2@db/x"
    assert "hunter2" not in f"{config!r}{config.shown()}{config.written()}"
    assert "topsecret" not in f"{config!r}{config.shown()}{config.written()}"
    assert plain.sha256 == config.sha256 == EMPTY_CONFIG_SHA256


def test_a_limit_applies_only_where_it_is_written(tmp_path: Path) -> None:
    """A named tool has its own entry and nothing of `_default`; without either it is free."""
    text = "rate_limits:\n  tools:\n    _default: {qps: 100}\n    pay: {max_concurrent: 2}\n"
    limits = load(written(tmp_path, text), {}).config.rate_limits
    pay, other = limits.find("tool", "pay"), limits.find("tool", "other")
    assert pay is not None
    assert (pay.qps, pay.max_concurrent, pay.burst) == (None, 2, 1)
    assert other is not None
    assert other.qps == 100
    assert limits.find("llm", "openai") is None


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    """Working without the limits that someone wrote would be worse than not working."""
    with pytest.raises(Refused, match="no such file or directory; name a file with --config"):
        load(tmp_path / "none.yaml", {})
    with pytest.raises(Refused, match="no such file or directory; name a file with CONFIG_PATH"):
        load(None, {"CONFIG_PATH": str(tmp_path / "none.yaml")})
    with pytest.raises(Refused, match=r"^AETHERIS_DSN is not a PostgreSQL connection string"):
        load(written(tmp_path, "jobstore:\n  dsn: postgresql://in-file\n"), {"AETHERIS_DSN": "nonsense"})


def test_a_changed_file_is_seen_and_a_broken_one_refused(tmp_path: Path) -> None:
    """Limits change without a restart; a slip of the pen must not lift them."""
    path = written(tmp_path, "worker: {concurrency: 3}\n")
    watch = Watch(Loaded(load(path, {}).config, path))
    assert watch.changed() is None
    path.write_text("worker: {concurrency: 12}\n")
    changed = watch.changed()
    assert changed is not None
    assert changed.worker.concurrency == 12
    path.write_text("worker: {concurrency: -12345}\n")
    with pytest.raises(Refused, match=r":1: worker\.concurrency"):
        watch.changed()
    assert watch.changed() is None
