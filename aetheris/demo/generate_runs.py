"""Scripts of airline calls: what a customer wants, what the agent does, well or badly.

Each scenario writes one conversation; what tools answer comes from
`reference`, and the agent's next move from those answers. Some agents go wrong
on purpose: the wrong cabin, a sum that does not add up, the same search over
and over, giving up. `reward` tells, as in tau-bench, whether the customer's
goal was reached.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from aetheris.demo.conversation import Conversation, Document
from aetheris.demo.generate_world import CITIES
from aetheris.store.airline_data import DataSet


def book(talk: Conversation) -> float:
    """A booking as it should be."""
    return _book(talk, cabin="economy", asked="economy")


def book_wrong_cabin(talk: Conversation) -> float:
    """The customer asked for economy; the agent books business, says so nowhere, and is thanked."""
    _book(talk, cabin="business", asked="economy")
    return 0.0


def book_wrong_sum(talk: Conversation) -> float:
    """The agent forgets the insurance, tries again with other sums, and gives up."""
    origin, destination = talk.random.sample(list(CITIES), 2)
    talk.identify(f"One seat from {CITIES[origin]} to {CITIES[destination]}, economy, with insurance please.")
    date = talk.later()
    legs = _find(talk, origin, destination, date)
    if not legs:
        talk.say("There is nothing that day, I am sorry.", "Then no. ###STOP###")
        return 1.0
    fare = sum(leg["prices"]["economy"] for leg in legs)
    for wrong in (fare, fare + 10, fare - 20):
        _make_booking(talk, origin, destination, date, legs, "economy", wrong, insurance="yes")
        talk.call("think", thought=f"{wrong} was not accepted. I will try another amount.")
    talk.say("I am sorry, I can't complete this booking at the moment.", "That is a pity. ###STOP###")
    return 0.0


def cancel(talk: Conversation) -> float:
    """A cancellation that the rules allow."""
    talk.identify("I have to cancel a trip, I bought insurance and I am ill.")
    booking = talk.look_at_bookings()
    talk.call("think", thought=f"{booking['reservation_id']} has insurance: {booking['insurance']}.")
    if booking["insurance"] == "no" and booking["cabin"] != "business":
        talk.say("This booking has no insurance and can't be cancelled.", "I see. Thank you. ###STOP###")
        return 1.0
    talk.say(f"I will cancel {booking['reservation_id']} and refund it. Shall I?", "Yes, please.")
    talk.call("cancel_reservation", reservation_id=booking["reservation_id"])
    talk.call("get_reservation_details", reservation_id=booking["reservation_id"])
    talk.say("It is cancelled; the refund is on its way.", "Thank you. ###STOP###")
    return 1.0


def cancel_against_the_rules(talk: Conversation) -> float:
    """The agent cancels whatever it is asked to, twice even."""
    talk.identify("Cancel everything I have!")
    for number in talk.profile["reservations"]:
        talk.call("cancel_reservation", reservation_id=number)
    talk.call("cancel_reservation", reservation_id=talk.profile["reservations"][0])
    talk.say("Everything is cancelled.", "Good. ###STOP###")
    return 0.0


def move(talk: Conversation) -> float:
    """Another day for a booked flight: a gift card first, which may not do, then the card."""
    talk.identify("I need to travel on another day.")
    booking = talk.look_at_bookings()
    date, leg = talk.later(), booking["flights"][0]
    found = talk.call("search_direct_flight", origin=leg["origin"], destination=leg["destination"], date=date)
    if not found:
        talk.call("search_onestop_flight", origin=leg["origin"], destination=leg["destination"], date=date)
        talk.say("There is no direct flight on that day.", "Then leave it. ###STOP###")
        return 1.0
    flights = [{"flight_number": found[0]["flight_number"], "date": date}]
    flights += [{"flight_number": kept["flight_number"], "date": kept["date"]} for kept in booking["flights"][1:]]
    new, heads = found[0]["prices"][booking["cabin"]], len(booking["passengers"])
    talk.call("calculate", expression=f"({new} - {leg['price']}) * {heads}")
    talk.say(f"I can move you to {date}. Shall I?", "Yes, use what I have.")
    return _pay_for(
        talk,
        [*[m["id"] for source in ("gift_card", "certificate") for m in talk.methods(source)][:2], talk.card],
        lambda method: talk.call(
            "update_reservation_flights",
            reservation_id=booking["reservation_id"],
            cabin=booking["cabin"],
            flights=flights,
            payment_id=method,
        ),
    )


def upgrade(talk: Conversation) -> float:
    """The same flights in a better cabin; flights that have left can't be upgraded."""
    talk.identify("Put me in business class, please.")
    booking = talk.look_at_bookings()
    flights = [{"flight_number": leg["flight_number"], "date": leg["date"]} for leg in booking["flights"]]
    talk.say("I will change the cabin and charge the difference.", "Yes, on my card.")
    return _pay_for(
        talk,
        ["credit_card_0000000", talk.card],
        lambda method: talk.call(
            "update_reservation_flights",
            reservation_id=booking["reservation_id"],
            cabin="business",
            flights=flights,
            payment_id=method,
        ),
    )


def more_bags(talk: Conversation) -> float:
    """Two bags more."""
    talk.identify("I bring two more bags.")
    booking = talk.look_at_bookings()
    total, extra = booking["total_baggages"] + 2, booking["nonfree_baggages"] + 2
    talk.call("calculate", expression=f"50 * {extra - booking['nonfree_baggages']}")
    talk.say("That is 100 for two bags. Shall I?", "Yes.")
    return _pay_for(
        talk,
        [*(m["id"] for m in talk.methods("gift_card")[:1]), talk.card],
        lambda method: talk.call(
            "update_reservation_baggages",
            reservation_id=booking["reservation_id"],
            total_baggages=total,
            nonfree_baggages=extra,
            payment_id=method,
        ),
    )


def rename(talk: Conversation) -> float:
    """A misspelt name; the agent first sends one passenger too many."""
    talk.identify("A name on my booking is misspelt.")
    booking = talk.look_at_bookings()
    names = [{**person, "last_name": person["last_name"].upper()} for person in booking["passengers"]]
    for passengers in ([*names, talk.me()], names):
        talk.call("update_reservation_passengers", reservation_id=booking["reservation_id"], passengers=passengers)
    talk.say("The name is corrected.", "Thanks! ###STOP###")
    return 1.0


def complain(talk: Conversation) -> float:
    """A cancelled flight; the agent sends a certificate, and sometimes a second one."""
    talk.identify("My flight was cancelled and I want something for it.")
    booking = talk.look_at_bookings()
    amount = 100 * len(booking["passengers"])
    talk.say(f"I am sorry. I can offer a certificate of {amount}.", "Fine.")
    talk.call("send_certificate", user_id=talk.user_id, amount=amount)
    if talk.random.random() < 0.3:
        talk.call("send_certificate", user_id=talk.user_id, amount=50)
        talk.say("I added 50 more.", "Oh. Thank you! ###STOP###")
        return 0.0
    talk.call("get_user_details", user_id=talk.user_id)
    talk.say("It is in your profile.", "Thank you. ###STOP###")
    return 1.0


def hand_over(talk: Conversation) -> float:
    """Something that the tools can't do."""
    talk.identify("I left my violin on board yesterday.")
    talk.look_at_bookings()
    talk.call("transfer_to_human_agents", summary=f"{talk.user_id} left a violin on board.")
    return 1.0


def loop(talk: Conversation) -> float:
    """The agent repeats one search until the customer hangs up."""
    origin, destination = talk.random.sample(list(CITIES), 2)
    talk.identify(f"What goes from {CITIES[origin]} to {CITIES[destination]} with one stop?")
    talk.call("list_all_airports")
    date = talk.later()
    for _ in range(talk.random.randrange(3, 7)):
        talk.call("search_onestop_flight", origin=origin, destination=destination, date=date)
        talk.call("think", thought="Perhaps the search will show more this time.")
    talk.say("Let me look once more.", "Never mind. ###STOP###")
    return 0.0


def wrong_person(talk: Conversation) -> float:
    """An id and a booking that don't exist, then a hand-over that need not be."""
    talk.hear("I want to change my flight.")
    talk.say("Your user id, please?", f"{talk.user_id}x, I think.")
    talk.call("get_user_details", user_id=f"{talk.user_id}x")
    talk.call("get_reservation_details", reservation_id="ZZZZZZ")
    talk.call("cancel_reservation", reservation_id="ZZZZZZ")
    talk.call("transfer_to_human_agents", summary="The caller can't be identified.")
    return 0.0


#: Scenario and how often it comes up.
SCENARIOS: list[tuple[Callable[[Conversation], float], int]] = [
    (book, 18), (book_wrong_cabin, 6), (book_wrong_sum, 6), (cancel, 12), (cancel_against_the_rules, 6), (move, 14),
    (upgrade, 8), (more_bags, 6), (rename, 4), (complain, 6), (hand_over, 6), (loop, 5), (wrong_person, 3),
]  # fmt: skip


def make_run(random: Random, data: DataSet, number: int) -> Document:
    """Return one run, in the form of a line of runs.jsonl."""
    scenario = random.choices([s for s, _ in SCENARIOS], [weight for _, weight in SCENARIOS])[0]
    talk = Conversation(random, data, number)
    reward = scenario(talk)
    task = {"user_id": talk.user_id, "instruction": scenario.__name__.replace("_", " "), "actions": []}
    return {"task_id": number, "reward": reward, "info": {"task": task}, "traj": talk.messages, "trial": 0}


def _book(talk: Conversation, *, cabin: str, asked: str) -> float:
    origin, destination = talk.random.sample(list(CITIES), 2)
    date = talk.later()
    talk.identify(f"From {CITIES[origin]} to {CITIES[destination]} on {date} in {asked}, please.")
    legs = _find(talk, origin, destination, date)
    if not legs:
        talk.say("Nothing is on sale that day.", "Too bad. ###STOP###")
        return 1.0
    fare = sum(leg["prices"][cabin] for leg in legs)
    talk.call("calculate", expression=" + ".join(str(leg["prices"][cabin]) for leg in legs))
    talk.say(f"That is {fare}, on your card. Shall I book it?", "Yes, please.")
    made = _make_booking(talk, origin, destination, date, legs, cabin, fare, insurance="no")
    if isinstance(made, str):
        talk.say("The flight is full by now, I am sorry.", "Oh no. ###STOP###")
        return 0.0
    talk.say(f"It is booked: {made['reservation_id']}.", "Wonderful, thank you. ###STOP###")
    return 1.0


def _find(talk: Conversation, origin: str, destination: str, date: str) -> list[Document]:
    direct = talk.call("search_direct_flight", origin=origin, destination=destination, date=date)
    if direct:
        return [direct[0]]
    stops = talk.call("search_onestop_flight", origin=origin, destination=destination, date=date)
    return list(stops[0]) if stops else []


def _make_booking(
    talk: Conversation,
    origin: str,
    destination: str,
    date: str,
    legs: list[Document],
    cabin: str,
    paid: int,
    *,
    insurance: str,
) -> Any:
    certificates = talk.methods("certificate")[:1] if paid > 300 else []
    first = [{"payment_id": m["id"], "amount": min(m["amount"], paid)} for m in certificates]
    rest = paid - sum(payment["amount"] for payment in first)
    return talk.call(
        "book_reservation",
        user_id=talk.user_id,
        origin=origin,
        destination=destination,
        flight_type="one_way",
        cabin=cabin,
        flights=[{"flight_number": leg["flight_number"], "date": leg.get("date", date)} for leg in legs],
        passengers=[talk.me()],
        payment_methods=[*first, {"payment_id": talk.card, "amount": rest}],
        total_baggages=1,
        nonfree_baggages=0,
        insurance=insurance,
    )


def _pay_for(talk: Conversation, methods: list[str], attempt: Callable[[str], Any]) -> float:
    """Try one payment method after the other; give up when none does."""
    for method in methods:
        made = attempt(method)
        if not isinstance(made, str):
            talk.say("It is done.", "Thank you very much. ###STOP###")
            return 1.0
        talk.say(f"That did not work ({made.removeprefix('Error: ')}).", "Then try another way.")
    talk.call("transfer_to_human_agents", summary=f"{talk.user_id} could not be served.")
    return 0.0
