"""The feed: one look at the store for all streams that show the same, four times a second at most.

Less often, down to once a second, where a look takes long.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ebbtide.api.gate import Caller
from ebbtide.api.live.watches import Message, Watch
from ebbtide.api.problems import ApiError
from ebbtide.errors import EbbtideError
from ebbtide.jobs import Poster
from ebbtide.jobs.signals import Signal
from ebbtide.tasks.manager import TaskManager

__all__ = ["Feed", "Stream"]

LOG = logging.getLogger(__name__)

TICK_SECONDS = 0.25
# How often everything is looked at although no signal came, and whether who watches still may.
SWEEP_SECONDS = 1.0
# Looks take at most this share of the time: the longer they take, the more is told at once.
_SHARE = 0.1
_WAITING = 256

_T = TypeVar("_T")


class Stream:
    """What one watcher is still to be told. It ends when the feed does, or nothing more can come.

    Args:
        seen: the number of the last entry that the watcher knows.
    """

    def __init__(self, caller: Caller, watch: Watch, seen: int | None, *, counts: bool) -> None:
        self.caller = caller
        self.counts = counts
        self.watch = watch
        self.seen = seen
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._ended = False

    def put(self, messages: list[Message]) -> None:
        """Called in the loop's thread. A watcher who does not read is left behind, and comes again."""
        if self._queue.qsize() > _WAITING:
            self.end()
            return
        for each in messages:
            self._queue.put_nowait(each)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            each = await self._queue.get()
            if each is None:
                return
            if each.number is not None:
                # Its first messages and the watch's next ones may overlap.
                if self.seen is not None and each.number <= self.seen:
                    continue
                self.seen = each.number
            yield each
            if each.last:
                return


class Feed:
    """Opens streams. Belongs to one event loop; all that it asks of the store it asks in one thread.

    Args:
        poster: of which the watches have desks.
        per_caller: how many streams one credential may have open at once.
    """

    def __init__(self, poster: Poster, *, per_caller: int) -> None:
        self._poster = poster
        self._per_caller = per_caller
        self._streams: set[Stream] = set()
        self._watches: dict[Hashable, Watch] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._tasks = TaskManager("api.live")
        self._closed = False
        self._looking: str | None = None  # the task that looks, until it has nobody left to look for
        self._numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        caller: Caller,
        key: Hashable,
        make: Callable[[], Watch],
        *,
        after: int | None = None,
        counts: bool = True,
    ) -> AsyncIterator[Stream]:
        """A stream of the watch `key`, made if nobody watches it yet; its first messages are there already.

        Args:
            after: the last entry that is known.
            counts: as one of those that the caller may have; not if it is part of one that does.

        Raises:
            ApiError: 429, too many streams of this caller; 503, the server ends.
            EbbtideError: what is to be watched cannot be, such as a job that is not known.
        """
        if not self._tasks.accepting:
            raise ApiError(503, "stopping", "The server ends", "the server ends: try again")
        mine = sum(each.counts and each.caller.credential == caller.credential for each in self._streams)
        if counts and mine >= self._per_caller:
            raise ApiError(
                429,
                "too-many-streams",
                "Too many streams",
                f"{mine} are open with this token: close one first",
                headers={"Retry-After": "5"},
            )
        key = (caller.jobs_of, key)
        watch = self._watches.get(key) or make()
        stream = Stream(caller, watch, after, counts=counts)
        self._streams.add(stream)  # before its first look: what changes meanwhile is news to it
        self._watches.setdefault(key, watch)
        stream.watch = watch = self._watches[key]
        try:
            stream.put(await self._in_thread(watch.first, after, time.monotonic()))
            if self._looking is None and self._tasks.accepting:
                self._looking = f"look-{next(self._numbers)}"
                self._tasks.start(self._looking, self._look_on())
            yield stream
        finally:
            self._streams.discard(stream)
            if not any(each.watch is watch for each in self._streams):
                self._watches.pop(key, None)

    async def close(self) -> None:
        """End all streams. May be called twice: by the server before it waits for answers, and by the
        application when it ends."""
        if self._closed:
            return
        for stream in self._streams:
            stream.end()
        await self._tasks.shutdown(timeout=0)
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        self._closed = True

    async def _in_thread(self, work: Callable[..., _T], *given: Any) -> _T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="ebbtide-live")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    async def _look_on(self) -> None:
        """Look as long as anybody watches."""
        signal = None
        try:
            signal = await self._in_thread(self._poster.signal)
            looked = time.monotonic()
            pause = TICK_SECONDS
            while self._streams:
                await asyncio.sleep(pause)
                pause = TICK_SECONDS
                swept = time.monotonic() - looked >= min(SWEEP_SECONDS, signal.sweep_seconds)
                if await self._in_thread(signal.changed) or swept:
                    looked = time.monotonic()
                    await self._look()
                    took = time.monotonic() - looked
                    pause = min(max(TICK_SECONDS, took / _SHARE), SWEEP_SECONDS)
        finally:
            self._looking = None
            for stream in self._streams:
                stream.end()  # left by a fault: nobody would tell them anything; who watches comes again
            if signal is not None:
                await asyncio.shield(self._in_thread(_close, signal))

    async def _look(self) -> None:
        for key, watch in list(self._watches.items()):
            try:
                messages = await self._in_thread(watch.news)
            except EbbtideError as error:
                LOG.warning("api.live_failed %s", error)  # it is looked at again
                continue
            for stream in [each for each in self._streams if each.watch is watch]:
                stream.put(messages)
            if watch.ended:
                self._watches.pop(key, None)
        await self._dismiss()

    async def _dismiss(self) -> None:
        """End the streams of credentials that are no more."""
        wanted = {stream.caller.credential for stream in self._streams}
        try:
            live = await self._in_thread(self._poster.credentials.living, wanted)
        except EbbtideError as error:
            LOG.warning("api.live_failed %s", error)
            return
        for stream in [each for each in self._streams if each.caller.credential not in live]:
            stream.end()


def _close(signal: Signal) -> None:
    signal.close()
