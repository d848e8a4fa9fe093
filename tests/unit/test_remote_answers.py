"""What an API answers, as our errors; and what a session over one refuses by itself."""

from __future__ import annotations

import json

import pytest

from aetheris.domain.errors import AetherisError, Conflict, Corrupt, Denied, Refused, Unusable
from aetheris.forensics.remote import Api, _error

TOLD = json.dumps({"detail": "so it is"}).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (401, Denied), (403, Denied), (404, Refused), (409, Conflict), (500, Corrupt), (503, Unusable)],
)
def test_a_status_is_one_of_our_errors_in_the_apis_words(status: int, kind: type[AetherisError]) -> None:
    """The exit code is the same whether the store is here or there."""
    error = _error(status, TOLD)
    assert type(error) is kind
    assert "so it is" in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"title": "x"}'])
def test_an_answer_that_is_not_the_apis_still_makes_one_line(body: bytes) -> None:
    """A proxy answers in its own way."""
    assert "answered 502" in str(_error(502, body))
    assert "AETHERIS_URL" in str(_error(404, body))


def test_an_api_that_nobody_serves_is_named_in_words() -> None:
    """The system's own number for it says nothing to a person."""
    with pytest.raises(
        Unusable, match=r"can't reach http://127\.0\.0\.1:1 \(connection refused\); is `aetheris serve`"
    ):
        Api("http://127.0.0.1:1").get("/api/jobs")
