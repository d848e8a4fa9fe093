"""The desk's rules, decided over plain data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aetheris.demo import rules
from aetheris.store.airline import Outcome, Situation

DESK = {"now": "2026-03-10T09:00:00", "reservation_ids": ["N1", "N2"], "certificate_ids": [1, 2]}


def _now(**change: Any) -> Situation:
    day = {
        "status": "available",
        "available_seats": {"economy": 2, "business": 0},
        "prices": {"economy": 100, "business": 300},
    }
    held = {"flight_number": "A1", "date": "2026-03-11", "price": 80, "origin": "OSL", "destination": "LIS"}
    known: dict[str, Any] = {
        "reservation": {
            "reservation_id": "R1",
            "user_id": "ana",
            "cabin": "economy",
            "flights": [held],
            "passengers": [{"first_name": "Ana"}],
            "payment_history": [{"payment_id": "card", "amount": 80}],
            "total_baggages": 0,
            "nonfree_baggages": 0,
        },
        "user_id": "ana",
        "methods": {
            "card": {"source": "credit_card"},
            "gift": {"source": "gift_card", "amount": 90},
            "cert": {"source": "certificate", "amount": 200},
        },
        "flights": {
            "A1": {"shown": {"origin": "OSL", "destination": "LIS"}, "days": {"2026-03-11": day}},
            "A2": {"shown": {"origin": "OSL", "destination": "LIS"}, "days": {"2026-03-11": {"status": "delayed"}}},
        },
        "desk": DESK,
        "taken": frozenset[str](),
    }
    return Situation(**{**known, **change})


def _book(now: Situation, payments: list[dict[str, Any]], **change: Any) -> Outcome:
    asked: dict[str, Any] = {
        "user_id": "ana", "origin": "OSL", "destination": "LIS", "flight_type": "one_way", "cabin": "economy",
        "flights": [{"flight_number": "A1", "date": "2026-03-11"}], "passengers": [{"first_name": "Ana"}],
        "payment_methods": payments, "total_baggages": 2, "nonfree_baggages": 1, "insurance": "yes",
    }  # fmt: skip
    wanted, decide = rules.book(**{**asked, **change})
    assert wanted.flight_numbers == [leg["flight_number"] for leg in {**asked, **change}["flights"] if len(leg) == 2]
    return decide(now)


def test_a_booking_uses_up_a_certificate_and_draws_on_a_gift_card() -> None:
    """What is left of a certificate is lost, what is left of a gift card is not."""
    done = _book(_now(), [{"payment_id": "cert", "amount": 150}, {"payment_id": "gift", "amount": 30}])
    assert done.methods == {"cert": None, "gift": {"source": "gift_card", "amount": 60}}
    assert done.reservation is not None
    assert json.loads(done.answer) == done.reservation
    assert list(done.reservation["flights"][0]) == ["flight_number", "date", "price", "origin", "destination"]
    assert (done.reservation["reservation_id"], done.listed_for) == ("N1", "ana")


@pytest.mark.parametrize(
    ("payments", "change", "answer"),
    [
        (
            [{"payment_id": "card", "amount": 179}],
            {},
            "payment amount does not add up, total price is 180, but paid 179",
        ),
        ([{"payment_id": "gift", "amount": 91}], {}, "not enough balance in payment method gift"),
        ([{"payment_id": "nope", "amount": 180}], {}, "payment method nope not found"),
        ([], {"cabin": "business"}, "not enough seats on flight A1"),
        ([], {"cabin": "first"}, "'first'"),
        (
            [],
            {"flights": [{"flight_number": "A2", "date": "2026-03-11"}]},
            "flight A2 not available on date 2026-03-11",
        ),
        ([], {"flights": [{"flight_number": "A1", "date": "2026-03-31"}]}, "flight A1 not found on date 2026-03-31"),
        ([], {"flights": [{"flight_number": "A9", "date": "2026-03-11"}]}, "flight A9 not found"),
        ([], {"flights": [{"number": "A1"}]}, "'flight_number'"),
        ([{"payment_id": "cert", "amount": 90}] * 2, {}, "'cert'"),
    ],
)
def test_a_booking_that_can_not_be_is_answered_and_changes_nothing(
    payments: list[dict[str, Any]], change: dict[str, Any], answer: str
) -> None:
    """A caller's mistake is told, never half done."""
    if "flights" in change and len(change["flights"][0]) == 1:
        _, decide = rules.change_flights("R1", "economy", change["flights"], "card")
        done = decide(_now())
    else:
        done = _book(_now(), payments, **change)
    assert done == Outcome(f"Error: {answer}")


def test_new_numbers_go_on_and_end() -> None:
    """The desk has few numbers to give; the last is not given twice."""
    pay = [{"payment_id": "card", "amount": 180}]
    second = _book(_now(taken=frozenset({"N1"})), pay).reservation
    assert second is not None
    assert second["reservation_id"] == "N2"
    assert _book(_now(taken=frozenset({"N1", "N2"})), pay).answer == "Error: no reservation number is left"


def test_a_leg_that_is_kept_keeps_its_price_unless_the_cabin_changes() -> None:
    """The customer paid 80 for it, whatever it costs today."""
    legs = [{"flight_number": "A1", "date": "2026-03-11"}]
    _, keep = rules.change_flights("R1", "economy", legs, "card")
    kept = keep(_now())
    assert kept.reservation is not None
    assert [paid["amount"] for paid in kept.reservation["payment_history"]] == [80]
    other = _now()
    assert other.reservation is not None
    other.reservation["cabin"] = "basic_economy"
    changed = keep(other)
    assert changed.reservation is not None
    assert [paid["amount"] for paid in changed.reservation["payment_history"]] == [80, 20]


@pytest.mark.parametrize(
    ("payment_id", "answer"),
    [
        ("cert", "Error: certificate cannot be used to update reservation"),
        ("nope", "Error: payment method not found"),
        ("gift", "Error: gift card balance is not enough"),
    ],
)
def test_bags_are_paid_by_a_method_that_can(payment_id: str, answer: str) -> None:
    """Two bags cost 100, and the gift card holds 90."""
    _, decide = rules.change_baggages("R1", 2, 2, payment_id)
    assert decide(_now()) == Outcome(answer)


def test_a_cancellation_turns_every_payment_back() -> None:
    """Refunds stand in the history, as payments do."""
    done = rules.cancel("R1")[1](_now()).reservation
    assert done is not None
    assert (done["status"], [paid["amount"] for paid in done["payment_history"]]) == ("cancelled", [80, -80])
