"""How a cancel request reaches a coroutine: as a CancelledError at its await, and as a level."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import types
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Executor
from contextvars import ContextVar
from typing import Any, TypeVar

from ebbtide.tasks.event import CallLater, CancelEvent

__all__ = ["BodyLoop", "Delivery", "current_delivery"]

LOG = logging.getLogger(__name__)

_LEFTOVER_SECONDS = 1.0

_T = TypeVar("_T")


class _Delivered(asyncio.CancelledError):
    """What a body is given: of a class of ours, since a built-in one takes no weak reference."""


class Delivery:
    """Delivers a request to one body, that is to one coroutine and those it awaits by itself.

    A level, not a pulse: whenever the body comes to an await while a cancel is requested, it meets a
    CancelledError there. Except while it handles one: what a ``finally``, an ``except`` or the end of an
    ``async with`` awaits on the way out is its cleanup, and goes on. Once the error was swallowed, nobody
    holds it any more, and the next await meets another.

    Used by the thread of its loop.

    Args:
        on_delivered: called each time it is delivered; None: this is an undo, where it never is.
    """

    def __init__(self, event: CancelEvent, on_delivered: Callable[[], None] | None) -> None:
        self._event = event
        self._on_delivered = on_delivered or (lambda: None)
        self._task: asyncio.Task[Any] | None = None
        self._shields = 1 if on_delivered is None else 0
        self._asked = False  # the body's task was cancelled by us, and has not seen that yet
        self._given: weakref.ref[_Delivered] | None = None
        self.started: set[asyncio.Task[Any]] = set()  # what the body has started, and has not ended

    async def drive(self, body: Coroutine[Any, Any, _T]) -> _T:
        """Run the body in the calling asyncio task; returns what it returns."""
        self._task = asyncio.current_task()
        token = current_delivery.set(self)
        try:
            return await self._steps(body)
        finally:
            current_delivery.reset(token)
            self._task = None

    def deliver_if_requested(self) -> None:
        """As `deliver`, where this body's own event is set. No look at it: tests count those."""
        if self._event.source:
            self.deliver()

    def deliver(self) -> None:
        """A cancel is requested: deliver it, if the body awaits something that it may not go on awaiting."""
        if self._may_be_given_one:
            self._asked = True
            assert self._task is not None
            self._task.cancel()

    def cut_off(self) -> None:
        """Cancel the body's task once, whatever the event and the shields say."""
        if self._task is not None:
            self._task.cancel()

    @contextlib.contextmanager
    def shielding(self) -> Iterator[None]:
        """A stretch in which nothing is delivered, neither to the body nor to what it has started."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
            if asyncio.current_task() is not self._task:
                self._look()  # the body itself looks at its next await

    def _look(self) -> None:
        # In this order: a look at the event is a checkpoint, and in a shield there are none.
        if self._may_be_given_one and self._event.requested:
            self.deliver()

    @property
    def _may_be_given_one(self) -> bool:
        handles_one = self._given is not None and self._given() is not None
        return self._task is not None and not self._shields and not handles_one

    @types.coroutine
    def _steps(self, body: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
        # No local variable here may keep the error once it is thrown: the body alone holds it then.
        sent: Any = None
        errors: list[BaseException] = []
        while True:
            try:
                awaited = body.throw(errors.pop()) if errors else body.send(sent)
            except StopIteration as end:
                result: _T = end.value
                return result
            self._look()
            try:
                sent = yield awaited
            except GeneratorExit:
                body.close()
                raise
            except BaseException as error:  # noqa: BLE001  # thrown into the body at once
                errors.append(self._ours() if self._is_ours(error) else error)

    def _is_ours(self, error: BaseException) -> bool:
        return self._asked and isinstance(error, asyncio.CancelledError)

    def _ours(self) -> _Delivered:
        self._asked = False
        self._on_delivered()
        error = _Delivered()
        self._given = weakref.ref(error)
        return error


#: Of the body that runs here, or has started what runs here.
current_delivery: ContextVar[Delivery | None] = ContextVar("delivery", default=None)


class BodyLoop:
    """The event loop in which bodies run: where they block, how a cancel reaches them, what they leave.

    Used by the thread of the loop, before anything runs in it.

    Args:
        threads: where it waits for a store; None: nowhere, the loop has only one body to run.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, event: CancelEvent, threads: Executor | None = None
    ) -> None:
        self._loop = loop
        self._event = event
        self._threads = threads
        self._bodies: set[Delivery] = set()
        loop.set_task_factory(_start)
        event.add_callback(lambda _: self._wake())

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call what may block."""
        if self._threads is None:
            return function(*args)
        return await self._loop.run_in_executor(self._threads, function, *args)

    @property
    def call_later(self) -> CallLater | None:
        """Who keeps the time of limits; None: the event by itself."""
        if self._threads is None:
            return None  # a test's event may have a clock of its own
        return lambda seconds, call: self._loop.call_later(seconds, call).cancel

    async def run(
        self,
        body: Coroutine[Any, Any, _T],
        event: CancelEvent,
        on_delivered: Callable[[], None] | None = None,
    ) -> _T:
        """Run a body to its end, and end what it has started and left: nothing of it goes on after that.

        Args:
            event: the loop's, or a child of it.
            on_delivered: as for `Delivery`.

        Raises:
            CancelledError: a cancel was delivered; or it comes from the body itself.
        """
        delivery = Delivery(event, on_delivered)
        self._bodies.add(delivery)
        if event is not self._event:
            event.add_callback(lambda _: self._wake())
        try:
            return await delivery.drive(body)
        finally:
            self._bodies.discard(delivery)
            await _end_all(delivery.started)

    def cut_off(self) -> None:
        """Cancel what runs, undo or not, although nobody has requested it: the loop is to end."""
        for delivery in list(self._bodies):
            delivery.cut_off()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs in it
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        for delivery in list(self._bodies):
            delivery.deliver_if_requested()


def _start(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """The task factory: what a body starts is known to belong to it."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    owner = current_delivery.get()
    if owner is not None:
        owner.started.add(task)
        task.add_done_callback(owner.started.discard)
    return task


async def _end_all(started: set[asyncio.Task[Any]]) -> None:
    """Cancel what a body has left running, again and again until it has ended."""
    told = False
    while started:
        for task in list(started):
            task.cancel()
        _, pending = await asyncio.wait(set(started), timeout=_LEFTOVER_SECONDS)
        if pending and not told:
            told = True
            LOG.warning(
                "%d asyncio tasks that a body has left do not end although they are cancelled", len(pending)
            )
