"""AsyncPoster: the client for asyncio programs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ebbtide.errors import StoreUnavailable
from ebbtide.flows import Registry
from ebbtide.jobs.inthreads import InThreads, in_thread
from ebbtide.jobs.poster import WATCH_SECONDS, Poster
from ebbtide.jobs.records import Chunk, Entry, Job
from ebbtide.jobs.streams import STREAM_SECONDS, rests

__all__ = ["AsyncPoster"]

_POLL_SECONDS = 0.02


class AsyncPoster(InThreads[Poster]):
    """A `Poster` whose methods are awaited; they have the same names, arguments and errors.

        async with AsyncPoster("sqlite:///jobs.db", flow_modules=["myflows"]) as poster:
            job = await poster.post("answer", {"prompt": "hello"})
            async for chunk in poster.stream(job.id):
                print(chunk.value)

    Each call is made in a thread. Who is cancelled while he awaits one does not take it back: a post may be
    stored all the same. Waiting, following and streaming hold no thread: one watches the store for all.

    For one event loop; opened by ``async with``. The arguments are those of `Poster`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(functools.partial(Poster, *args, **kwargs))
        self._watch: _Watch | None = None

    async def __aenter__(self) -> AsyncPoster:
        self._watch = _Watch(asyncio.get_running_loop(), await self._open())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """As `Poster.close`; whoever waits is told that it is closed. May be called twice."""
        if self._watch is not None:
            await self._call(self._watch.close)
        if self._poster is not None:
            poster, self._poster = self._poster, None
            await self._call(poster.close)
        self._pool.shutdown(wait=False)

    @property
    def registry(self) -> Registry:
        """As `Poster.registry`; it may import modules, and does so in the calling thread."""
        return self._opened.registry

    post = in_thread(Poster.post)
    cancel = in_thread(Poster.cancel)
    retry = in_thread(Poster.retry)
    unpark = in_thread(Poster.unpark)
    accept = in_thread(Poster.accept)
    delete = in_thread(Poster.delete)
    show = in_thread(Poster.show)
    list = in_thread(Poster.list)
    tasks = in_thread(Poster.tasks)
    entries = in_thread(Poster.entries)
    logs = in_thread(Poster.logs)
    chunks = in_thread(Poster.chunks)
    result = in_thread(Poster.result)
    cancel_many = in_thread(Poster.cancel_many)
    delete_many = in_thread(Poster.delete_many)
    choices = in_thread(Poster.choices)
    preview = in_thread(Poster.preview)
    receipt = in_thread(Poster.receipt)
    retry_many = in_thread(Poster.retry_many)
    conductors = in_thread(Poster.conductors)
    pause = in_thread(Poster.pause)
    pause_many = in_thread(Poster.pause_many)
    pause_flow = in_thread(Poster.pause_flow)
    paused_flows = in_thread(Poster.paused_flows)
    prune = in_thread(Poster.prune)
    resume = in_thread(Poster.resume)
    resume_many = in_thread(Poster.resume_many)
    resume_flow = in_thread(Poster.resume_flow)
    rewind = in_thread(Poster.rewind)
    savepoints = in_thread(Poster.savepoints)
    statistics = in_thread(Poster.statistics)
    tail = in_thread(Poster.tail)
    page = in_thread(Poster.page)
    counts = in_thread(Poster.counts)
    graph = in_thread(Poster.graph)

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """As `Poster.wait`."""
        async with contextlib.aclosing(self._seen(job_id, timeout)) as seen:
            async for job in seen:
                if rests(job):
                    return job
        raise _still(job, timeout)

    async def follow(self, job_id: str, timeout: float | None = None) -> AsyncIterator[Entry]:
        """As `Poster.follow`."""
        after = 0
        async with contextlib.aclosing(self._seen(job_id, timeout)) as seen:
            async for job in seen:
                for entry in await self.entries(job.id, after):
                    after = entry.number
                    yield entry
                if rests(job):
                    return
        raise _still(job, timeout)

    async def watch(self, job_id: str, seconds: float = WATCH_SECONDS) -> AsyncIterator[Job]:
        """As `Poster.watch`."""
        async with contextlib.aclosing(self._seen(job_id, None)) as seen:
            async for job in seen:
                yield job
                if rests(job):
                    return
                await asyncio.sleep(seconds)

    async def stream(self, job_id: str, after: int = 0, timeout: float | None = None) -> AsyncIterator[Chunk]:
        """As `Poster.stream`."""
        async with contextlib.aclosing(self._seen(job_id, timeout)) as seen:
            async for job in seen:
                while chunks := await self.chunks(job.id, after):
                    after = chunks[-1].number
                    for chunk in chunks:
                        yield chunk
                if rests(job):
                    return
        raise _still(job, timeout)

    async def _seen(self, job_id: str, timeout: float | None) -> AsyncGenerator[Job, None]:
        """The job now, and whenever it may have changed, until `timeout` seconds have passed."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        job = await self.show(job_id)
        assert self._watch is not None
        with self._watch.listening(job.id) as bell:
            while True:
                bell.clear()
                yield await self.show(job.id)
                try:
                    async with asyncio.timeout_at(deadline):
                        await bell.wait()
                except TimeoutError:
                    return


@dataclass(eq=False)
class _Bell:
    job_id: str
    event: asyncio.Event
    mark: object = None  # of the job, when it was rung last


class _Watch:
    """One thread that looks for changes of the jobs that anybody waits for: one query for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, poster: Poster) -> None:
        self._loop = loop
        self._poster = poster
        self._lock = threading.Lock()  # guards the fields below
        self._bells: set[_Bell] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextlib.contextmanager
    def listening(self, job_id: str) -> Iterator[asyncio.Event]:
        """What is set after each change of that job, and once at the beginning."""
        bell = _Bell(job_id, asyncio.Event())
        with self._lock:
            self._bells.add(bell)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="ebbtide-watch", daemon=True)
                self._thread.start()
        try:
            yield bell.event
        finally:
            with self._lock:
                self._bells.discard(bell)

    def close(self) -> None:
        """Ring once more, and wait until the thread has ended."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._ring(self._bells)
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        signal = self._poster.signal()
        looked = -math.inf
        try:
            while True:
                with self._lock:
                    if self._closed or not self._bells:
                        self._thread = None
                        return
                    bells = list(self._bells)
                # A commit that brings chunks alone rings nowhere on a server.
                if signal.changed() or time.monotonic() - looked >= STREAM_SECONDS:
                    looked = time.monotonic()
                    self._look(bells)
                else:
                    signal.pause(_POLL_SECONDS)
        finally:
            signal.close()

    def _look(self, bells: list[_Bell]) -> None:
        try:
            marks = self._poster.marks({bell.job_id for bell in bells})
        except StoreUnavailable:
            self._ring(bells)  # they meet it by themselves
            return
        changed = [bell for bell in bells if bell.mark is None or bell.mark != marks.get(bell.job_id)]
        for bell in changed:
            bell.mark = marks.get(bell.job_id)
        self._ring(changed)

    def _ring(self, bells: Iterable[_Bell]) -> None:
        for bell in bells:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits in it
                self._loop.call_soon_threadsafe(bell.event.set)


def _still(job: Job, timeout: float | None) -> TimeoutError:
    return TimeoutError(f"job {job.id} is still {job.phase} after {timeout} seconds")
