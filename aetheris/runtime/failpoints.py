"""Named points at which a test may kill, stop or end this process.

AETHERIS_FAILPOINT="NAME:kill|stop|exit[:NTH]" arms one point: at the NTH time
(1 by default) that NAME is reached, the process gets SIGKILL, SIGSTOP, or
exits. Without it, reaching a point costs one comparison.

    claim.before    claim.after      around the claim statement
    start.before    start.after      around the durable start record of a call
    effect.before   effect.after     around the tool itself
    end.before      end.after        around the event that ends a call (after: not yet durable)
    commit.before   commit.after     around the append of a commit
    release.before  release.after    around the last commit of a hold
    snapshot.before snapshot.after   around the writing of a snapshot (after: committed)
"""

from __future__ import annotations

import os
import signal
import threading

from aetheris.domain.errors import Refused

_ACTIONS = ("kill", "stop", "exit")
_left = 0
_name = _action = ""


def _arm(text: str) -> None:
    global _name, _action, _left
    if not text:
        return
    name, _, rest = text.partition(":")
    action, _, nth = rest.partition(":")
    if not name or action not in _ACTIONS or not (nth or "1").isdecimal():
        raise Refused(f"AETHERIS_FAILPOINT={text!r} is not NAME:kill|stop|exit[:NTH]")
    _name, _action, _left = name, action, int(nth or 1)


def reach(name: str) -> None:
    """Say that point `name` is reached. Nothing happens unless it is the armed one."""
    global _left
    if name != _name or _left <= 0:
        return
    _left -= 1
    if _left:
        return
    if _action == "exit":
        os._exit(86)
    # To this very thread: sent to the process, another thread may take it, and this one would go on for a moment,
    # into the effect that the point stands before (seen: stopped with the world's lock in hand).
    signal.pthread_kill(threading.get_ident(), signal.SIGKILL if _action == "kill" else signal.SIGSTOP)


_arm(os.environ.get("AETHERIS_FAILPOINT", ""))
