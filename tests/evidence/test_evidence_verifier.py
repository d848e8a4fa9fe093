"""The verifier on its own: what it stands on, what it holds in memory, what it says, how fast."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

import aetheris
from aetheris.domain.errors import Refused
from aetheris.evidence import Limits, __main__, archive, verify
from tests.evidence.evidence_job import Job, Spec, base, finished, genesis, package, started

ROOT = Path(aetheris.__file__).parents[1]
BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("aetheris", "cryptography", "cffi", "_cffi_backend"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
from aetheris.evidence.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_verifier_stands_on_the_standard_library_and_cryptography(tmp_path: Path) -> None:
    """A stranger must be able to read all of what they rely on."""
    path = tmp_path / "e.zip"
    path.write_bytes(package(base().members()))
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}){BLOCKED}", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (3, "")
    assert ran.stdout.startswith("container      passed      11 members")


def test_the_block_above_does_block() -> None:
    """A guard that lets everything through proves nothing."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}){BLOCKED.replace('main(sys.argv[1:])', '0')}import orjson"
    ran = subprocess.run(
        [sys.executable, "-c", code.replace("sys.exit(0)", "")], capture_output=True, text=True, check=False
    )
    assert "blocked: orjson" in ran.stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_command_prints_the_verdict_and_exits_with_its_code(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts read the exit code; people read the lines."""
    path = tmp_path / "e.zip"
    path.write_bytes(package(base().members()))
    assert __main__.main([str(path), *(["--json"] if form == "json" else [])]) == 3
    out = capsys.readouterr().out
    if form == "json":
        said = json.loads(out)
        assert (said["exit"], said["verdict"], len(said["layers"])) == (3, "self-consistent", 8)
    else:
        assert [line[:14].strip() for line in out.splitlines()[:8]] == [
            "container", "integrity", "completeness", "ledger", "authenticity", "log", "time", "disclosure",
        ]  # fmt: skip
        assert out.rstrip().endswith("exit 3")


@pytest.mark.parametrize("what", ["absent", "folder", "empty"])
def test_a_file_that_cannot_be_read_is_unusable_in_one_line(what: str, tmp_path: Path) -> None:
    """No traceback, and never 'failed': nothing was read."""
    path = {"absent": tmp_path / "no\x1b[2J.zip", "folder": tmp_path, "empty": tmp_path / "empty.zip"}[what]
    if what == "empty":
        path.touch()
    verdict = verify(path)
    assert verdict.exit_code == 2
    assert str(verdict).isprintable() is False
    assert "\x1b" not in str(verdict)


def test_what_is_no_key_is_never_seemingly_used() -> None:
    """A verdict without the key that somebody meant to give would look like one with it."""
    with pytest.raises(Refused, match="not a public key"):
        verify(package(base().members()), trust=b"key")


def test_a_claim_of_200_megabytes_allocates_nothing() -> None:
    """A 4 kB file must not cost 200 MB."""
    data = bytearray(package(base().members()))
    at = data.rfind(b"PK\1\2")
    data[at + 20 : at + 28] = (200 * 2**20).to_bytes(4, "little") * 2
    for limits in (Limits(), Limits(member_bytes=2**31)):
        tracemalloc.start()
        verdict = verify(bytes(data), limits=limits)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert verdict.exit_code in (1, 2)
        assert peak < 2 * 2**20


def test_memory_stays_in_proportion_to_the_package() -> None:
    """A small package must not unfold into a large heap."""
    body = b"[" + b"[]," * 300_000 + b"[]]"
    data = package(Job([genesis(), Spec("job_completed", {}, {"result": body})]).build().members())
    tracemalloc.start()
    assert verify(data).exit_code == 3
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * len(data)


def test_a_file_larger_than_the_limit_is_not_read_whole(tmp_path: Path) -> None:
    """Whoever hands over a terabyte gets an answer, not an outage."""
    path = tmp_path / "big.zip"
    with path.open("wb") as file:
        file.truncate(2**33)
    tracemalloc.start()
    verdict = verify(path, limits=Limits(package_bytes=2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert verdict.exit_code == 2
    assert peak < 4 * 2**20


def test_findings_are_counted_beyond_the_first_twenty() -> None:
    """A thousand broken lines are said to be a thousand, and shown as twenty."""
    specs = [genesis(), *(Spec("job_parked", {"reason": "x"}, prev="ab" * 32) for _ in range(50))]
    verdict = verify(package(Job(specs, sealed=False).build().members()))
    layer = verdict["integrity"]
    assert (len(layer.findings), layer.more) == (20, 30)
    assert "and 30 more" in str(verdict)


def test_a_damaged_package_that_shows_no_damage_fails_all_the_same() -> None:
    """Whoever exported it saw something; the mark is not decoration."""
    verdict = verify(package(base().members(), damaged=True))
    assert (verdict.exit_code, verdict["integrity"].status) == (1, "failed")


@pytest.mark.no_cover  # a traced line costs several times as much
def test_ten_thousand_events_are_verified_in_seconds(record_property: Callable[[str, object], None]) -> None:
    """An auditor waits for coffee at most."""
    specs = [genesis()]
    for step in range(1, 5000):
        specs += [started(step, "once", epoch=1), finished(step, "once", epoch=1)]
    specs.append(Spec("job_completed"))
    data = archive.build(Job(specs).build().members())
    begun = time.process_time()  # whatever else the machine does meanwhile
    verdict = verify(data)
    rate = len(specs) / (time.process_time() - begun)
    record_property("events_per_second", round(rate))
    print(f"{rate:,.0f} events/s, {len(data):,} bytes")
    assert verdict.exit_code == 3, str(verdict)
    assert rate > 2000
