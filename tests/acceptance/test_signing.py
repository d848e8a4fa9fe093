"""Seals that are signed: from a new key to a stranger's verdict, and an alarm when one no longer verifies."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aetheris.evidence.dsse import Signer
from aetheris.runtime.collection import Collector
from aetheris.runtime.sealing import seal_finished
from aetheris.store.database import Database
from tests.acceptance.test_alerts import as_series, firing, promtool, scrape
from tests.acceptance.test_retention import Terminal, terminal
from tests.store.retention_support import house

__all__ = ["promtool", "terminal"]
SIGNER = Signer("acme-2026", b"\x01" * 32)


def test_from_a_new_key_to_exit_0(terminal: Terminal) -> None:
    """The private half never leaves its file and the environment; the public half is all a verifier needs."""
    terminal.run("keys", "new", "acme-2026")
    private = terminal.folder / "acme-2026.key"
    assert private.stat().st_mode & 0o777 == 0o600
    assert "is there already" in terminal.run("keys", "new", "acme-2026", code=2)
    (terminal.folder / "aetheris.yaml").write_text(
        "security:\n  evidence_signing:\n    enabled: true\n    key_id: acme-2026\n"
    )
    job = terminal.ran(700)
    assert "there is no key" in terminal.run("seal", code=2)
    assert "there is no key" in terminal.run("gc", code=2)
    told = terminal.run("gc", "--dry-run")  # it signs nothing, and says what it could not look at
    assert "would go   0 jobs" in told
    assert "signatures not looked at: security.evidence_signing is enabled and there is no key" in told
    terminal.env["AETHERIS_EVIDENCE_SIGNING_PRIVATE_KEY"] = "c2VjcmV0"
    told = terminal.run("seal", code=2)
    assert "not an Ed25519 key" in told
    assert "c2VjcmV0" not in told
    terminal.env["AETHERIS_EVIDENCE_SIGNING_PRIVATE_KEY"] = private.read_text()
    assert terminal.json("seal")["sealed"] == 1
    assert private.read_text().strip() not in terminal.run("config", "show")
    terminal.run("export", job[:8], "-o", "e.zip")
    assert "sealed by acme-2026 (given by you)" in terminal.run("verify", "e.zip", "--trust", "acme-2026.pub")
    told = terminal.json("audit", "-o", "audit.jsonl")
    assert told["signature"] == "audit.jsonl.dsse"
    shown = terminal.run("verify", "audit.jsonl", "--trust", "acme-2026.pub", "--head", told["head"])
    assert "signed by acme-2026 (given by you)" in shown
    assert "verified by a key you gave    exit 0" in shown
    assert "signatures" not in terminal.run("gc", "--dry-run")
    assert "not a public key" in terminal.run("verify", "e.zip", "--trust", "aetheris.yaml", code=2)
    assert "can't be read" in terminal.run("verify", "e.zip", "--trust", "nowhere.pub", code=2)
    assert "can't be read" in terminal.run("verify", "audit.jsonl", "--trust", "nowhere.pub", code=2)
    del terminal.env["AETHERIS_EVIDENCE_SIGNING_PRIVATE_KEY"]
    told = terminal.run("audit", "-o", "audit.jsonl")  # a chain is read by who has no key, and says that nobody signed
    assert "(unsigned)\nsignature  none: security.evidence_signing is enabled and there is no key" in told
    assert not (terminal.folder / "audit.jsonl.dsse").exists()


def test_a_forged_signature_keeps_its_job_and_rings(promtool: str, database: Database, tmp_path: Path) -> None:
    """Someone changed a stored seal: its job is not collected, and the alert fires from a scrape."""

    async def work() -> tuple[dict[str, tuple[str, float]], dict[str, tuple[str, float]]]:
        async with house(database, tmp_path) as here:
            true, forged = await here.travelled(2)
            await seal_finished(database, by="test", signer=SIGNER)
            calm = scrape()
            with here.admin() as connection:
                connection.execute(
                    "UPDATE aetheris.seals SET dsse = (SELECT dsse FROM aetheris.seals WHERE job_id = %s)"
                    " WHERE job_id = %s",
                    [true, forged],
                )
            await here.mirror()
            here.aged()
            done = await Collector(database, here.folder, days=90, by="test", signer=SIGNER).run()
            assert (done.jobs, done.kept["signature fails"]) == (1, 1)
            assert here.count("jobs", forged) == 1
            return calm, scrape()

    before, after = asyncio.run(asyncio.wait_for(work(), 60))
    series = {k: v for k, v in as_series(before, after).items() if k.startswith("signature_verification")}
    assert firing(promtool, tmp_path, "SignatureVerificationFailed", series, 30)
    quiet = {name: "0x40" for name in series}
    assert not firing(promtool, tmp_path, "SignatureVerificationFailed", quiet, 30)


@pytest.mark.parametrize("name", ["../up", "", "a b"])
def test_a_key_of_a_strange_name_is_refused(terminal: Terminal, name: str) -> None:
    """It becomes a file's name."""
    assert "can't name a key" in terminal.run("keys", "new", name, code=2)
