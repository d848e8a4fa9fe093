"""`aetheris config`: what people see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aetheris.runtime import config
from aetheris.runtime.config_file import load


def aetheris(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would, in a folder with nothing in it but what the test put there."""
    env = {k: v for k, v in os.environ.items() if k not in ("CONFIG_PATH", "AETHERIS_DSN")}
    env |= {"AETHERIS_JWT_KEY": "topsecret"}
    command = [sys.executable, "-m", "aetheris", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_check_names_the_line_and_leaves_with_two(tmp_path: Path) -> None:
    """A deployment's script stops here, not at the first job."""
    (tmp_path / "aetheris.yaml").write_text("worker:\n  concurency: 4\n")
    done = aetheris(tmp_path, "config", "check")
    assert done.returncode == 2
    assert done.stderr == "aetheris: aetheris.yaml:2: worker.concurency: no such key; did you mean concurrency?\n"


def test_check_says_what_nothing_reads_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is taken and does nothing would be a lie. There is none now; the next one is named again."""
    (tmp_path / "other.yaml").write_text(
        "rate_limits: {llm: {desk: {tokens_per_minute: 9}}}\nworker: {concurrency: 4}\n"
    )
    done = aetheris(tmp_path, "--config", "other.yaml", "config", "check", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["not_read_yet"] == []
    monkeypatch.setattr(config, "NOT_READ_YET", ("rate_limits.llm",))
    assert load(tmp_path / "other.yaml", {}).config.not_read() == ["rate_limits.llm.desk.tokens_per_minute"]


def test_show_says_what_is_in_force_and_no_secret(tmp_path: Path) -> None:
    """Defaults too: what is not written is in force as well."""
    (tmp_path / "aetheris.yaml").write_text("rate_limits: {tools: {pay: {qps: 2.5}}}\n")
    done = aetheris(tmp_path, "config", "show")
    assert done.returncode == 0
    assert "rate_limits.tools.pay.qps: 2.5\n" in done.stdout
    assert "worker.concurrency: 100\n" in done.stdout
    assert 'api.middleware.jwt_key: "(set, not shown)"' in done.stdout
    assert "topsecret" not in done.stdout + done.stderr
