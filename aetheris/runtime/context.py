"""`ctx`: the only way for a job's code to reach the world, wait, or learn something new.

What a job calls gets its step number when it is called, in program order, so
the same code makes the same steps in every run. Nothing begins until it is
awaited.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from aetheris.domain.errors import Refused
from aetheris.runtime.agents import Agent
from aetheris.runtime.answers import Approval
from aetheris.runtime.llm.replies import AskedCall, Reply
from aetheris.runtime.llm.step import LlmStep
from aetheris.runtime.steps import CheckpointStep, ContinueStep, Step, ToolStep
from aetheris.runtime.tools import Tool, ToolFailed
from aetheris.runtime.trampoline import Gather, Waitable
from aetheris.runtime.waits import ApprovalStep, ChildStep, SignalStep, TimerStep

if TYPE_CHECKING:
    from aetheris.runtime.engine import Engine


#: Longest correlation key of a signal.
KEY_LIMIT = 200


class _Shared:
    """What both forms of ctx offer without waiting."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def job(self) -> str:
        """The job's id."""
        return self._engine.job

    @property
    def tenant(self) -> str:
        """The tenant that the job belongs to."""
        return self._engine.tenant

    @property
    def replaying(self) -> bool:
        """True while the code goes through what is on record already: for counting and logging, never for deciding."""
        engine = self._engine
        return engine.read_only or not engine.history.fresh(engine.last_step)

    def now(self) -> datetime:
        """Return the time of the last thing delivered to this job, UTC: the same in every replay.

        It stands still while the code computes; it moves with each await.
        """
        return datetime.fromtimestamp(self._engine.now_us / 1e6, UTC)

    def random(self) -> float:
        """Return a number from 0 to below 1 by the operating system, recorded: the same in every replay."""
        return self._engine.random()

    def patched(self, patch: str) -> bool:
        """Return True where the code takes its new way, False in a job that went past here the old way.

        Use it to change code under jobs that are under way:
        `if ctx.patched("new-fee"): ... else: ...`. What is said is recorded once and stays.
        """
        return self._engine.patched(patch)

    def _ask(
        self,
        model: str,
        prompt: str | None,
        system: str | None,
        messages: Sequence[Mapping[str, Any]] | None,
        tools: Sequence[Tool[Any, Any]],
        options: dict[str, Any],
    ) -> LlmStep:
        return self._engine.make(LlmStep, self._engine.models.get(model), prompt, system, messages, tools, options)


class Context(_Shared):
    """The ctx of an `async def` agent."""

    def call(self, tool: Tool[Any, Any] | AskedCall, /, **arguments: Any) -> Step:
        """Return the call of `tool`, or the one that a model asked for; await it for its result.

        Errors: Refused at once for arguments that don't validate; where it is
        awaited, ToolFailed when the tool raised.
        """
        return self._engine.make(ToolStep, *_told(tool, arguments))

    def llm(
        self,
        model: str,
        /,
        prompt: str | None = None,
        *,
        system: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        tools: Sequence[Tool[Any, Any]] = (),
        **options: Any,
    ) -> Step:
        """Ask the model of this name in `models:` and return its Reply, where it is awaited.

        Give a `prompt`, or the `messages` so far in the protocol's own form.
        `tools` are offered; the calls that the model asks for stand validated
        in `reply.calls`, and `ctx.call` or `ctx.answer_calls` runs them.
        Options: temperature, max_output_tokens, tool_choice, response_format,
        extra (whatever else the endpoint takes).

        Errors: Refused at once for what the protocol can't say; where it is
        awaited, ToolFailed when the endpoint refused, or failed too often.
        """
        return self._ask(model, prompt, system, messages, tools, options)

    async def answer_calls(self, reply: Reply) -> list[dict[str, Any]]:
        """Run the calls that a model asked for, all at once, and return the messages that tell it what came of them.

        What can't be run, and what a tool raised, is told to the model as an error.
        """
        begun = [self.call(asked) for asked in reply.calls if not asked.error]
        results = iter(await self.gather(*begun, return_exceptions=True))
        return _answers(reply, results)

    def gather(
        self, *parts: Waitable[Any] | Coroutine[Any, Any, Any], return_exceptions: bool = False
    ) -> Waitable[list[Any]]:
        """Return all results in order once every part is through; parts run concurrently.

        A part is anything ctx returned, or a coroutine that awaits only such.
        If parts failed, the first in order raises, after all are through.
        """
        return Gather([self._engine.part(p) for p in parts], keep_errors=return_exceptions)

    def sleep(self, duration: timedelta | float) -> Step:
        """Wait for `duration` (or seconds) by the database's clock; workers may come and go meanwhile."""
        return self._engine.make(TimerStep, seconds(duration))

    def wait_signal(self, key: str, *, expires: timedelta | float | None = None) -> Step:
        """Wait for the signal with this key and return its payload; it may have come before.

        A key names one signal of the job: whoever waits for it again gets it
        again. Errors: Expired where it is awaited, Refused for an empty key.
        """
        return self._engine.make(SignalStep, check_key(key), _end(expires))

    def approval(self, title: str, *, role: str | None = None, expires: timedelta | float | None = None) -> Step:
        """Ask a person (of `role`, where given) and return their Approval, which is true only for a yes.

        Nobody's answer by `expires` is a no with `.expired`.
        """
        return self._engine.make(ApprovalStep, title, role, _end(expires))

    def child(self, agent: Agent, value: Any = None) -> Step:
        """Start a job of `agent` and wait for its result, across crashes of either.

        Errors: ChildFailed where it is awaited; Refused for a bad input.
        """
        return self._engine.make(ChildStep, agent, value)

    def checkpoint(self, state: Any) -> Step:
        """Record `state` as a resume point: from here on the code starts anew as fn(ctx, state).

        Nothing earlier is read again. Refused while other steps are under way.
        """
        return self._engine.make(CheckpointStep, state)

    def continue_as_new(self, state: Any) -> Step:
        """End this run and go on as a new job that begins with `state` as its input; awaiting it never returns.

        For jobs without an end: each run keeps a short record. Both runs name
        each other on the record. What was sent to this one and not waited for
        does not follow. Refused while other steps are under way, and in a
        child job, whose parent waits for this run.
        """
        return self._engine.make(ContinueStep, self._engine.agent, state)


class SyncContext(_Shared):
    """The ctx of a plain `def` agent, which runs in a thread: calls return results."""

    def call(self, tool: Tool[Any, Any] | AskedCall, /, **arguments: Any) -> Any:
        """Call `tool`, or what a model asked for, and return its result. Errors: Refused, ToolFailed."""
        return self._engine.block_on(self._engine.make(ToolStep, *_told(tool, arguments)))

    def llm(
        self,
        model: str,
        /,
        prompt: str | None = None,
        *,
        system: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        tools: Sequence[Tool[Any, Any]] = (),
        **options: Any,
    ) -> Reply:
        """Ask a model, as `Context.llm` does, and return its Reply."""
        reply: Reply = self._engine.block_on(self._ask(model, prompt, system, messages, tools, options))
        return reply

    def answer_calls(self, reply: Reply) -> list[dict[str, Any]]:
        """Run the calls that a model asked for, as `Context.answer_calls` does."""
        begun = [self.start(asked) for asked in reply.calls if not asked.error]
        return _answers(reply, iter(self.gather(*begun, return_exceptions=True)))

    def start(self, tool: Tool[Any, Any] | AskedCall, /, **arguments: Any) -> Step:
        """Return a call for `gather`; nothing begins yet."""
        return self._engine.make(ToolStep, *_told(tool, arguments))

    def gather(self, *parts: Waitable[Any], return_exceptions: bool = False) -> list[Any]:
        """Run what `start` returned concurrently and return the results in order."""
        return list(self._engine.block_on(Gather([self._engine.part(p) for p in parts], keep_errors=return_exceptions)))

    def sleep(self, duration: timedelta | float) -> None:
        """Wait for `duration` (or seconds), durably."""
        self._engine.block_on(self._engine.make(TimerStep, seconds(duration)))

    def wait_signal(self, key: str, *, expires: timedelta | float | None = None) -> Any:
        """Wait for a signal, as `Context.wait_signal` does."""
        return self._engine.block_on(self._engine.make(SignalStep, check_key(key), _end(expires)))

    def approval(self, title: str, *, role: str | None = None, expires: timedelta | float | None = None) -> Approval:
        """Ask a person, as `Context.approval` does."""
        answer: Approval = self._engine.block_on(self._engine.make(ApprovalStep, title, role, _end(expires)))
        return answer

    def child(self, agent: Agent, value: Any = None) -> Any:
        """Run a child job, as `Context.child` does."""
        return self._engine.block_on(self._engine.make(ChildStep, agent, value))

    def checkpoint(self, state: Any) -> None:
        """Record `state` as a resume point, as `Context.checkpoint` does."""
        self._engine.block_on(self._engine.make(CheckpointStep, state))

    def continue_as_new(self, state: Any) -> NoReturn:
        """End this run and go on as a new job, as `Context.continue_as_new` does."""
        self._engine.block_on(self._engine.make(ContinueStep, self._engine.agent, state))
        raise AssertionError("a continued run has ended")


def seconds(duration: timedelta | float) -> float:
    """Return a duration in seconds. Errors: Refused when negative or beyond a century."""
    value = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not 0 <= value <= 100 * 366 * 86_400:
        raise Refused(f"can't sleep for {value:g} seconds: from 0 to a century")
    return value


def _told(tool: Tool[Any, Any] | AskedCall, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if isinstance(tool, AskedCall):
        return tool.tool, tool.arguments | arguments
    return tool, arguments


def _answers(reply: Reply, results: Iterator[Any]) -> list[dict[str, Any]]:
    told = [(asked, Refused(asked.error) if asked.error else next(results)) for asked in reply.calls]
    for _, result in told:
        if isinstance(result, BaseException) and not isinstance(result, ToolFailed | Refused):
            raise result  # the job's own end, not the tool's
    return [asked.answered(result) for asked, result in told]


def _end(expires: timedelta | float | None) -> float | None:
    return None if expires is None else seconds(expires)


def check_key(key: str) -> str:
    """Return a signal's key as it is. Errors: Refused when it is empty, too long or not printable."""
    if not isinstance(key, str) or not key or len(key) > KEY_LIMIT or not key.isprintable():
        raise Refused(f"a signal's key is 1 to {KEY_LIMIT} printable characters, not {key!r:.60}")
    return key
