"""AsyncTask: a task whose execute and revert are coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from ebbtide.tasks import payload
from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.delivery import BodyLoop, current_delivery
from ebbtide.tasks.event import Cancelled
from ebbtide.tasks.limit import body_event
from ebbtide.tasks.wrapping import (
    check_parameters,
    end_execute,
    executing,
    mark_wrapped,
    prepare_undo,
    undoes_nothing,
    undoing,
    witnessed,
    wrap_class,
    wrap_revert,
)

__all__ = ["AsyncTask", "executed_in", "reverted_in", "wrap_execute", "wrap_undo"]

_T = TypeVar("_T")


async def executed_in(loop: BodyLoop, task: AsyncTask, arguments: Mapping[str, Any]) -> Any:
    """What execute() returned, as `ebbtide.tasks.calling.executed`, its body run in that loop.

    Raises:
        Cancelled: before it returned.
    """
    body = functools.partial(type(task).execute.__wrapped__, task)
    task.pre_execute()
    try:
        result = await task._ebbtide_in(loop, _execute, body, arguments)
    except Cancelled as cancelled:
        if not cancelled.returned:
            raise
        result = cancelled.result
    task.post_execute()
    return result


async def reverted_in(loop: BodyLoop, task: AsyncTask, arguments: Mapping[str, Any]) -> None:
    """Run revert(), its body in that loop."""
    revert = type(task).revert
    task.pre_revert()
    await task._ebbtide_in(loop, _revert, revert.__wrapped__, revert.wanted(arguments))  # type: ignore[attr-defined]
    task.post_revert()


async def _execute(
    loop: BodyLoop, task: AsyncTask, body: Callable[..., Coroutine[Any, Any, Any]], kwargs: Mapping[str, Any]
) -> Any:
    run = task.run
    begun = await loop.call(run.begin, task.name)
    task.interrupted, task.saved = begun.interrupted, begun.saved
    with body_event(task, loop.call_later) as event, executing(task, event):
        try:
            with witnessed("execute", task, kwargs) as tell, task.heeding(event):
                result = await loop.run(body(**kwargs), event, lambda: _delivered(task))
                tell(result)
        except asyncio.CancelledError:
            if event.requested:
                raise Cancelled(event.reason, event.source) from None
            raise
        text = run.encode(result, f"the result of {task.name}")
    return end_execute(task, text)


def _delivered(task: AsyncTask) -> None:
    if task.run.event.source:  # set; its own limit is told by nobody but its failure
        task.run.delivered(task.name)


async def _revert(
    loop: BodyLoop,
    task: AsyncTask,
    body: Callable[..., Coroutine[Any, Any, Any]],
    kwargs: dict[str, Any],
) -> None:
    undo = await loop.call(task.run.begin_undo, task.name)
    if undo is None:
        return
    prepare_undo(task, undo, kwargs)
    with undoing(task, body, kwargs), witnessed("revert", task, kwargs) as tell:
        tell(await loop.run(body(task, **kwargs), task.run.event))


def _revert_alone(task: AsyncTask, body: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    _alone(task, lambda loop: task._ebbtide_in(loop, _revert, body, kwargs))


def _alone(task: AsyncTask, make: Callable[[BodyLoop], Coroutine[Any, Any, Any]]) -> Any:
    """Run what is made in an event loop of its own, in the calling thread."""
    with asyncio.Runner() as runner:
        return runner.run(make(BodyLoop(runner.get_loop(), task.run.event)))


def _wrap(cls: type[AsyncTask], verb: str, function: Any) -> Callable[..., Any]:
    """`function`, wrapped as the execute or revert of `cls`, which is not touched."""
    if verb == "revert":
        return wrap_undo(cls, function)
    where = f"{cls.__module__}.{cls.__qualname__}.{verb}"
    _refuse_plain(where, verb, function)
    return wrap_execute(where, function, inner=function)


def _refuse_plain(where: str, verb: str, function: Any) -> None:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{where} is not async: an AsyncTask runs an `async def {verb}(self, ...)`")


def wrap_undo(cls: type[AsyncTask], function: Any) -> Callable[..., Any]:
    """The wrapper of a revert that is a coroutine function; TypeError for any other."""
    where = f"{cls.__module__}.{cls.__qualname__}.revert"
    _refuse_plain(where, "revert", function)
    check_parameters(where, "revert", function)
    return wrap_revert(function, _revert_alone)


def wrap_execute(where: str, body: Callable[..., Any], *, inner: Callable[..., Any]) -> Callable[..., Any]:
    """The wrapper of an execute by the coroutine function `body`.

    It is called as that of any task, and runs the body in an event loop of its own. A conductor does not call
    it: it runs the body in the loop of its run; see `executed_in`.

    Args:
        inner: what ``super().execute(...)`` of a subclass calls.
    """
    check_parameters(where, "execute", inner)

    @functools.wraps(body)
    def execute(self: AsyncTask, *args: Any, **kwargs: Any) -> Any:
        if type(self).execute is not execute:
            # Called through super(), and awaited there: the outermost has begun the task already.
            return inner(self, *args, **kwargs)
        call = functools.partial(body, self, *args)
        return _alone(self, lambda loop: self._ebbtide_in(loop, _execute, call, kwargs))

    return mark_wrapped(execute)


class AsyncTask(CancelableTask, kind=True):
    """A task whose bodies are ``async def execute(self, ...)`` and ``async def revert(self, result, ...)``.

    All tasks of this kind that run at once in a job share one event loop in a thread of its own: a
    thousand that wait are not a thousand threads. So a body may not block: put what does into
    ``await asyncio.to_thread(...)``, or write a `CancelableTask`.

    Once a cancel is requested the body meets ``asyncio.CancelledError`` at its await. What it awaits on its
    way out, in ``finally`` and the like, goes on undisturbed: that is its cleanup. If it swallows the error
    and goes on, its next await meets another. A body that does not end within its grace is ended with its
    runner, as any other. Before its end is stored, asyncio tasks that it has started and left are cancelled
    and waited for. To an asyncio task that it has started a cancel comes as asyncio passes it on, when the
    body itself is cancelled, and once.

    The undo is shielded: nothing is delivered there.

    Without a conductor, ``task.execute(...)`` is an ordinary call, which runs the body in a loop of its own.
    """

    _ebbtide_wrap: ClassVar[Any] = staticmethod(_wrap)
    # The loop of the conductor's run, while it runs the task.
    __loop: BodyLoop | None = None

    @undoes_nothing
    async def revert(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing to undo, unless a subclass says what."""

    # Awaited, unlike those of a CancelableTask: whoever writes a body knows of which kind it is.

    async def checkpoint(self, data: Any = None) -> None:  # type: ignore[override]
        """Let others run, and look at the cancel event, as any await; with `data`, save that durably first.

        Saved data is there as ``self.saved`` for the undo, and for the next execute should the runner die.

        Raises:
            PayloadError: `data` is not JSON, or too large.
        """
        if data is not None:
            text = self.run.encode(data, f"the checkpoint data of {self.name}")
            with self.shield():
                await self._ebbtide_call(self.run.save, self.name, text)
            self.saved = payload.decode(text)
        await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:  # type: ignore[override]
        """Wait `seconds`; as ``asyncio.sleep``, but a test's clock counts."""
        await self.run.pause(seconds)

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """A stretch in which nothing is delivered, for a step that must not be cut; a plain ``with``."""
        delivery = current_delivery.get()
        with self.cancel.shield(), delivery.shielding() if delivery else contextlib.nullcontext():
            yield

    async def _ebbtide_in(
        self, loop: BodyLoop, call: Callable[..., Coroutine[Any, Any, Any]], *args: Any
    ) -> Any:
        self.__loop = loop
        try:
            return await call(loop, self, *args)
        finally:
            self.__loop = None

    async def _ebbtide_call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what may wait for the store."""
        assert self.__loop is not None
        return await self.__loop.call(function, *args)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_AsyncTask__loop"}


wrap_class(AsyncTask)
