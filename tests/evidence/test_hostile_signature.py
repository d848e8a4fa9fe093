"""Section E of the hostile packages: signatures that are missing, borrowed, bent or by nobody the verifier knows.

A base package is sealed and signed by a key that the verifier was given.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from aetheris.domain import canonical
from aetheris.domain.errors import Refused
from aetheris.evidence import archive, dsse, format, verify
from aetheris.evidence.authenticity import MANIFEST_TYPE
from aetheris.evidence.dsse import SMALL_ORDER, pae, signer
from aetheris.evidence.source import SealMembers
from aetheris.evidence.statement import PAYLOAD_TYPE
from aetheris.evidence.trust import keys, read_trust
from tests.evidence.evidence_job import SIGNER, STRANGER, Job, base, judged, package

L = 2**252 + 27742317777372353535851937790883648493


def job() -> Job:
    """The base job."""
    return base()


def statement() -> bytes:
    """Its seal."""
    return job().members()["seal.json"]


def trust(**more: Any) -> bytes:
    """A file of keys with the signer's alone."""
    key = base64.b64encode(SIGNER.public.raw).decode()
    return json.dumps({"keys": [{"name": "acme-2026", "public_key": key, **more}]}).encode()


def sealed(dsse: bytes | None, **changes: Any) -> bytes:
    """The package under this envelope."""
    return package(job().members(seal=SealMembers(statement(), dsse), **changes))


def envelope(said: bytes, **changes: Any) -> bytes:
    """A true envelope over a statement, with fields otherwise."""
    return canonical.dumps(json.loads(SIGNER.envelope(PAYLOAD_TYPE, said)) | changes)


def signed(said: bytes, *signatures: tuple[str, bytes | str]) -> bytes:
    """A true envelope with other signatures."""
    rows = [{"keyid": k, "sig": s if isinstance(s, str) else base64.b64encode(s).decode()} for k, s in signatures]
    return envelope(said, signatures=rows)


def over(message: bytes, by: dsse.Signer = SIGNER) -> bytes:
    """A raw signature."""
    return Ed25519PrivateKey.from_private_bytes(by._seed).sign(message)


def true(said: bytes) -> bytes:
    """The true signature."""
    return over(pae(PAYLOAD_TYPE, said))


def text64(said: bytes) -> str:
    """The true signature as it is spelt."""
    return base64.b64encode(true(said)).decode()


ME = SIGNER.public.keyid


def bent_s(said: bytes) -> bytes:
    """The same signature with S + L: as true to the equation, and another text."""
    made = true(said)
    return made[:32] + (int.from_bytes(made[32:], "little") + L).to_bytes(32, "little")


def by_ecdsa(said: bytes) -> bytes:
    """A signature by another algorithm."""
    key = ec.derive_private_key(7, ec.SECP256R1())
    return key.sign(pae(PAYLOAD_TYPE, said), ec.ECDSA(hashes.SHA256()))[:64].ljust(64, b"\0")


def url64(said: bytes) -> str:
    """The true signature in the URL's alphabet; where it has none of its letters, with one more."""
    text = text64(said).replace("+", "-").replace("/", "_")
    return text if "-" in text or "_" in text else text + "-"


def pads(said: bytes) -> str:
    """The true signature with nonzero pad bits."""
    text = text64(said)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    at = len(text.rstrip("=")) - 1
    return text[:at] + alphabet[alphabet.index(text[at]) + 1] + text[at + 1 :]


def manifest_signed(kind: str) -> bytes:
    """A package whose manifest is signed too, over itself or over another job's."""
    members = job().members(seal=SealMembers(statement(), envelope(statement())))
    said = members["manifest.json"] if kind == "own" else package(job().change(1, by="user/eve").build().members())[:9]
    return package(members | {"manifest.dsse": SIGNER.envelope(MANIFEST_TYPE, said)})


def of_another() -> bytes:
    """A manifest that names another seal, truly signed."""
    members = job().members(seal=SealMembers(statement(), envelope(statement())))
    said = json.loads(members["manifest.json"]) | {"seal": "0" * 64}
    changed = members | {"manifest.json": canonical.dumps(said)}
    changed["manifest.dsse"] = SIGNER.envelope(MANIFEST_TYPE, changed["manifest.json"])
    return archive.build({name: changed[name] for name in sorted(changed, key=format.position)})


#: What may be done to the envelope over any statement; test_hostile_audit.py does it to an audit chain's.
ENVELOPES: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "H63-fresh-key": (3, lambda s: STRANGER.envelope(PAYLOAD_TYPE, s)),
    "H64-borrowed-keyid": (1, lambda s: signed(s, (ME, over(pae(PAYLOAD_TYPE, s), STRANGER)))),
    "H65-type-of-the-manifest": (1, lambda s: SIGNER.envelope(MANIFEST_TYPE, s)),
    "H65-type-of-plain-json": (1, lambda s: SIGNER.envelope("application/json", s)),
    "H65-type-of-another-product": (1, lambda s: SIGNER.envelope("application/vnd.other+json", s)),
    "H66-raw-payload": (1, lambda s: signed(s, (ME, over(s)))),
    "H66-base64-text": (1, lambda s: signed(s, (ME, over(base64.b64encode(s))))),
    "H66-character-counts": (1, lambda s: signed(s, (ME, over(
        f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(s) - 1} ".encode() + s)))),
    "H67-payload-of-another": (1, lambda s: SIGNER.envelope(PAYLOAD_TYPE, s + b" ")),
    "H67-payload-reordered": (1, lambda s: SIGNER.envelope(
        PAYLOAD_TYPE, json.dumps(dict(reversed(json.loads(s).items()))).encode())),
    "H70-none": (1, lambda s: signed(s, (ME, bytes(64)))),
    "H70-hmac-with-the-public-key": (1, lambda s: signed(s, (ME, hmac.digest(
        SIGNER.public.raw, pae(PAYLOAD_TYPE, s), hashlib.sha512)))),
    "H70-ecdsa": (1, lambda s: signed(s, (ME, by_ecdsa(s)))),
    "H70-prehashed": (1, lambda s: signed(s, (ME, over(hashlib.sha512(pae(PAYLOAD_TYPE, s)).digest())))),
    "H71-s-not-below-l": (1, lambda s: signed(s, (ME, bent_s(s)))),
    "H71-short": (1, lambda s: signed(s, (ME, true(s)[:63]))),
    "H71-with-a-tail": (1, lambda s: signed(s, (ME, true(s) + b"\0"))),
    "H72-r-of-small-order": (1, lambda s: signed(s, ("", min(SMALL_ORDER) + true(s)[32:]))),
    "H73-a-bad-one-of-a-given-key": (1, lambda s: signed(s, ("", true(s)), (ME, bytes(32) + true(s)[32:]))),
    "H73-one-key-twice": (1, lambda s: signed(s, (ME, true(s)), ("other", true(s)))),
    "H73-none-at-all": (1, lambda s: envelope(s, signatures=[])),
    "H73-a-hundred-thousand": (2, lambda s: signed(s, *[("", bytes(64))] * 100_000)),
    "H73-a-hundred": (1, lambda s: signed(s, *[("", true(s))] * 100)),
    "H74-url-alphabet": (1, lambda s: signed(s, (ME, url64(s)))),
    "H74-spaces": (1, lambda s: signed(s, (ME, text64(s)[:10] + " " + text64(s)[10:]))),
    "H74-line-break": (1, lambda s: signed(s, (ME, text64(s)[:10] + "\n" + text64(s)[10:]))),
    "H74-no-padding": (1, lambda s: signed(s, (ME, text64(s).rstrip("=")))),
    "H74-pad-bits": (1, lambda s: signed(s, (ME, pads(s)))),
    "odd-a-field-more": (1, lambda s: envelope(s, more=1)),
    "odd-a-signature-is-a-text": (1, lambda s: envelope(s, signatures=["x"])),
    "odd-a-keyid-is-a-number": (1, lambda s: envelope(s, signatures=[{"keyid": 1, "sig": text64(s)}])),
    "odd-nothing": (1, lambda s: b""),
}  # fmt: skip
CASES: dict[str, tuple[int, Callable[[], bytes]]] = {
    "H62-no-signature": (3, lambda: sealed(None)),
    "H63-fresh-key-in-the-package": (3, lambda: sealed(
        STRANGER.envelope(PAYLOAD_TYPE, statement()), trust={"mallory.pub": STRANGER.public.raw})),
    "H68-manifest-names-another-seal": (1, of_another),
    "H68-manifest-of-another": (1, lambda: manifest_signed("another")),
    **{name: (code, lambda make=make: sealed(make(statement()))) for name, (code, make) in ENVELOPES.items()},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_signature_passes_that_should_not(case: str) -> None:
    """Each row by itself; what nobody knows ends at 3, what is bent at 1, and never at 0."""
    code, build = CASES[case]
    layer = "container" if code == 2 else "authenticity"
    verdict = judged(build(), layer, code, trust())
    assert verdict["authenticity"].status != "passed"


def test_a_seal_by_a_given_key_is_verified_and_says_by_whom() -> None:
    """The one way to exit 0."""
    verdict = judged(sealed(envelope(statement())), "none", 0, trust())
    assert verdict["authenticity"].summary == "sealed by acme-2026 (given by you)"
    assert verdict.word == "verified"
    assert judged(manifest_signed("own"), "none", 0, trust()).exit_code == 0
    # A stranger's signature beside it takes nothing away, and a wrong hint neither.
    both = signed(
        statement(),
        (STRANGER.public.keyid, over(pae(PAYLOAD_TYPE, statement()), STRANGER)),
        ("hint", true(statement())),
    )
    assert judged(sealed(both), "none", 0, trust()).exit_code == 0


def test_without_a_key_nothing_is_verified() -> None:
    """The same package, given nothing to hold it against."""
    verdict = judged(sealed(envelope(statement())), "none", 3)
    assert "no key was given" in verdict["authenticity"].summary


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"revoked": True}, 1),
        ({"not_after": 1}, 1),
        ({"not_before": 2**52}, 1),
        ({"not_before": 1, "not_after": 2**52, "revoked": False}, 0),
    ],
)
def test_H69_a_key_vouches_only_for_its_time(more: dict[str, Any], code: int) -> None:
    """Without a timestamp, the end of the job is what is held against it; a revoked key vouches for nothing."""
    judged(sealed(envelope(statement())), "authenticity" if code else "none", code, trust(**more))


def test_H72_a_key_that_vouches_for_anything_is_not_taken() -> None:
    """All fourteen spellings of the eight points, and the key of zeros."""
    assert len(SMALL_ORDER) == 14
    for raw in {*SMALL_ORDER, bytes(32)}:
        with pytest.raises(Refused, match="small order or oddly spelt"):
            keys(base64.b64encode(raw), "k")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a public key"),
        (b"AAAA", "not a public key"),
        (b'{"keys": []}', "0 keys"),
        (b'{"keys": [{"name": "a"}]}', "a key has name and public_key"),
        (b'{"keys": [{"name": "a", "public_key": 7}]}', "not of type str"),
        (b'{"keys": 7}', "is expected"),
        (b'{"keys": ', "not a file of keys"),
        (trust().replace(b"]", b", " + trust()[10:-2] + b"]"), "twice"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not a public key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "a private key"),
    ],
)
def test_a_file_that_is_no_key_is_refused_in_words(data: bytes, says: str) -> None:
    """Whoever mistypes a path must not get a verdict as if no key had been meant."""
    with pytest.raises(Refused, match=says):
        keys(data, "k")


def test_a_private_key_is_not_taken_for_the_key_to_trust(tmp_path: Path) -> None:
    """`aetheris keys new` writes both beside each other, 32 bytes each: the verdict was about another's key."""
    path = tmp_path / "acme.key"
    path.write_text(base64.b64encode(b"a" * 32).decode())
    with pytest.raises(Refused, match=r"acme\.key: by its name a private key; give the public one \(acme\.pub\)"):
        read_trust(path)


def test_a_key_of_another_kind_is_refused() -> None:
    """Its signatures would never be checked."""
    pem = ec.derive_private_key(7, ec.SECP256R1()).public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    with pytest.raises(Refused, match="not an Ed25519 one"):
        keys(pem, "k")


@pytest.mark.parametrize(
    "secret", ["", "x", base64.b64encode(bytes(32)).decode(), base64.b64encode(b"a" * 31).decode()]
)
def test_a_bad_signing_key_is_refused_and_not_shown(secret: str) -> None:
    """An error's text ends up in logs."""
    with pytest.raises(Refused, match="not an Ed25519 key") as told:
        signer("k", secret)
    assert not secret or secret not in str(told.value)
    assert "\\x01" not in repr(SIGNER)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_changed_byte_of_a_signed_package_is_verified(at: int, by: int) -> None:
    """Anywhere in the envelope or the seal: one, and it is not verified."""
    data = bytearray(sealed(envelope(statement())))
    start, end = data.index(b"seal.json"), data.index(b"events.jsonl")
    data[start + at % (end - start)] ^= by
    assert verify(bytes(data), trust=trust()).exit_code in (1, 2)
