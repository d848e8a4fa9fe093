"""What a worker serves: agents, the versions of theirs that it accepts, and what it can do."""

from __future__ import annotations

from collections.abc import Sequence

from aetheris.domain.errors import Refused
from aetheris.runtime.agents import Agent
from aetheris.runtime.held import Settings


class Serving:
    """The agents by name; one that is added is served from the next claim on."""

    def __init__(self, agents: Sequence[Agent], settings: Settings, offers: Sequence[str]) -> None:
        self.agents: dict[str, Agent] = {}
        self._settings, self._offers = settings, offers
        for agent in agents:
            self.add(agent)

    def add(self, agent: Agent) -> None:
        """Serve this agent as well. Errors: Refused when another of its name is served."""
        if agent.name in self.agents:
            raise Refused("two agents of one name: give one of them name=...")
        self.agents[agent.name] = agent

    @property
    def versions(self) -> dict[str, str]:
        """The version of each agent's code."""
        return {agent.name: agent.version for agent in self.agents.values()}

    @property
    def accepts(self) -> list[str]:
        """The earlier versions ("rebook@4") whose jobs this code may go on with."""
        own = [f"{agent.name}@{version}" for agent in self.agents.values() for version in agent.accepts]
        return [*self._settings.accepts, *own]

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the worker was said to have, what its models offer, and what its agents bring."""
        brought = [offer for agent in self.agents.values() for offer in agent.offers]
        return tuple(dict.fromkeys([*self._settings.capabilities, *self._offers, *brought]))
