"""One conversation at the desk being written down: what was said, what was called, what came back."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from aetheris.demo.generate_world import TODAY
from aetheris.demo.reference import ReferenceDesk
from aetheris.store.airline_data import DataSet

POLICY = (
    "You are the desk of a small airline. One tool call at a time. Say what you will change and get a yes before you "
    "change it. Certificates pay for bookings only. Hand over what the tools can't do."
)
Document = dict[str, Any]


class Conversation:
    """One call being written down: messages in OpenAI's chat form, tools answered by the reference."""

    def __init__(self, random: Random, data: DataSet, number: int) -> None:
        self.random, self.data, self._number = random, data, number
        self._desk = ReferenceDesk(data)
        self._calls = 0
        self.messages: list[Document] = [{"role": "system", "content": POLICY}]
        self.user_id = random.choice(list(data.users))
        self.profile = data.users[self.user_id]

    def hear(self, text: str) -> None:
        """The customer speaks."""
        self.messages.append({"role": "user", "content": text})

    def say(self, text: str, heard: str) -> None:
        """The agent speaks, the customer answers."""
        self.messages.append({"content": text, "role": "assistant"})
        self.hear(heard)

    def call(self, tool: str, **arguments: Any) -> Any:
        """The agent calls a tool; returns its answer, read where it is JSON."""
        self._calls += 1
        name = f"call_{self._number:04}_{self._calls:02}"
        function = {"arguments": json.dumps(arguments, separators=(",", ":")), "name": tool}
        call = {"function": function, "id": name, "type": "function"}
        self.messages.append({"content": None, "role": "assistant", "tool_calls": [call]})
        answer = self._desk.ask(tool, arguments)
        self.messages.append({"role": "tool", "tool_call_id": name, "name": tool, "content": answer})
        return json.loads(answer) if answer[:1] in ("{", "[") else answer

    def identify(self, wish: str) -> None:
        """The customer says what they want and who they are; the agent looks them up."""
        self.hear(wish)
        self.say("Gladly. May I have your user id?", f"It is {self.user_id}.")
        self.profile = self.call("get_user_details", user_id=self.user_id)

    def look_at_bookings(self) -> Document:
        """The agent reads the customer's bookings, and returns the one that they mean."""
        found = [self.call("get_reservation_details", reservation_id=n) for n in self.profile["reservations"]]
        return self.random.choice(found)

    def methods(self, source: str) -> list[Document]:
        """The customer's payment methods of one kind."""
        return [m for m in self.profile["payment_methods"].values() if m["source"] == source]

    @property
    def card(self) -> str:
        """The customer's credit card."""
        return str(self.methods("credit_card")[0]["id"])

    def me(self) -> Document:
        """The customer as a passenger."""
        return {**self.profile["name"], "dob": self.profile["dob"]}

    def later(self) -> str:
        """A day that flights are sold for."""
        return TODAY.replace(day=TODAY.day + self.random.randrange(1, 9)).isoformat()
