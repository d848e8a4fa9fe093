"""Errors of a user's code that are no Exception: how that code ended, unless it is how we or the process end it.

A job's code may raise anything: a library's sys.exit, pytest.fail, a CancelledError of a task that it awaited. Passed
on as such, it would end the task that drives the job, the job would lie until its lease ran out, and whoever took it
over would fare the same.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
import traceback

from aetheris.runtime.answers import Abandoned, Cancelled, Continued, said


class CodeRaised(Exception):
    """A job's code ended by an error whose type, on its way through asyncio, would mean something else."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {said(error)}")
        self.error = error


def passable(error: BaseException) -> BaseException:
    """Return the error as it may be raised in a task of ours."""
    return error if isinstance(error, Exception | SystemExit | Cancelled | Continued) else CodeRaised(error)


def of_the_code(error: BaseException) -> bool:
    """Return whether the code that this task awaited raised `error` by itself."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs: what is left of a task is being closed
        return False
    if isinstance(error, asyncio.CancelledError):
        return task is not None and not task.cancelling()
    return not isinstance(error, Abandoned) and not by_signal(error)


def by_signal(error: BaseException) -> bool:
    """Return whether `error` is a Ctrl-C that came while the code ran, not one that it raised.

    A handler of ours or asyncio's stands in its traceback. Python's own leaves no trace there: where that one is in
    force, any KeyboardInterrupt counts as the process's.
    """
    if not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signal.SIGINT)
    while isinstance(handler, functools.partial):
        handler = handler.func
    code = getattr(handler, "__code__", None)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return handler is signal.default_int_handler or any(frame.f_code is code for frame in frames)
