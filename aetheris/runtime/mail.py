"""What was sent to jobs in a worker's hands: heard of by NOTIFY or with a heartbeat, fetched, given to the job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

from aetheris.domain.errors import Conflict, Lost
from aetheris.runtime.held import Held
from aetheris.store import inbox
from aetheris.store.append import JobKey
from aetheris.store.database import Connection
from aetheris.store.signals import listen


class Mail:
    """The mail of the jobs in `held`; `hint` is told of every notice that is about another job."""

    def __init__(self, held: Mapping[JobKey, Held], hint: Callable[[], None]) -> None:
        self._held, self._hint = held, hint
        self._wanted: set[JobKey] = set()
        self._asked = asyncio.Event()

    def ask(self, keys: Iterable[JobKey]) -> None:
        """Have what was sent to these jobs fetched."""
        self._wanted.update(keys)
        if self._wanted:
            self._asked.set()

    async def listen_forever(self, connection: Connection) -> None:
        """Hear what is told, until the connection breaks."""
        async for notice in listen(connection):
            kind, _, rest = notice.partition(" ")
            tenant, _, job = rest.partition(" ")
            if kind == "inbox" and (tenant, job) in self._held:
                self.ask([(tenant, job)])
            else:
                self._hint()

    async def fetch_forever(self, connection: Connection) -> None:
        """Fetch what was asked for, and give it to those holds that it was asked for, while they last."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            wanted = {key: self._held[key] for key in self._wanted if key in self._held}
            self._wanted.clear()
            for key, messages in (await inbox.untaken(connection, list(wanted))).items():
                # Not for a later hold of the job: what was untaken when this was asked may be on its record by now.
                if (held := wanted[key]) is self._held.get(key):
                    with contextlib.suppress(Lost, Conflict):  # its own task hears of that too
                        held.run.take(messages)
