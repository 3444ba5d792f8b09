"""Service: a conductor and a poster inside an asyncio program."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ebbtide.conductor.intake import Intake
from ebbtide.conductor.service import Conductor
from ebbtide.config import Settings, load_settings
from ebbtide.errors import ConfigError, Conflict, JobNotFound, TooLate
from ebbtide.flows import Registry, load_flows
from ebbtide.jobs import AsyncPoster, CancelAnswer, Chunk, Entry, Job, JobState
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.store import Store

__all__ = ["NotAccepting", "Service", "ServiceEnd"]

LOG = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05
_MAX_LISTED = 10_000

Rest = Literal["cancel", "release"]


class NotAccepting(Conflict):
    """The service is shutting down and takes no new job."""


@dataclass(frozen=True)
class ServiceEnd:
    """How a service has ended: how many of the jobs that it ran while it shut down came to which end.

    Attributes:
        ended: by state; those that were still running when it began to shut down, but for removed ones.
        released: how many it gave back: another conductor, or this program when it is started again, goes on
            with them.
    """

    ended: dict[str, int]
    released: int


class Service:
    """Runs jobs inside an asyncio program, such as the lifespan of a web application.

        async with Service("sqlite:///jobs.db", flows=[answer]) as service:
            job = await service.post("answer", {"prompt": "hello"})
            async for chunk in service.stream(job.id):
                ...

    The jobs are in the store: killed and started again, the program goes on with them. `poster` has whatever
    a client can do besides the methods here.

    Args:
        database: URL or file; default: the settings'.
        flows: functions that ``@flow`` registered, or names of modules that register flows.
        isolation: ``thread``: jobs run in threads of this program. Quick to start; but a plain task that
            does not come to a checkpoint cannot be ended, and then keeps the shutdown waiting. ``process``:
            each job in a process of its own, which can be ended; flows have to be in modules then, which
            are imported there.
        runners: how many jobs run at once.
        shutdown_seconds: how long the end of the block waits for running jobs.
        rest: what becomes of those that still run then: ``cancel``, and their undo is waited for, or
            ``release``: they go on in another conductor, or when this program is started again. A coroutine,
            and in a process any task, is cut off for that and begins again there; a plain task in a thread
            ends first.
        settings: whatever else is to be set.

    Raises:
        ConfigError: flows that processes could not import, or an option that cannot be used.
    """

    def __init__(
        self,
        database: str | None = None,
        *,
        flows: Iterable[Callable[..., Any] | str] = (),
        isolation: Literal["thread", "process"] = "thread",
        runners: int = 4,
        shutdown_seconds: float = 10.0,
        rest: Rest = "release",
        settings: Settings | None = None,
    ) -> None:
        wanted = list(flows)
        modules = {each for each in wanted if isinstance(each, str)}
        if isolation == "process":
            modules |= {each.__module__ for each in wanted if not isinstance(each, str)}
        settings = settings or load_settings(database=database)
        if "__main__" in modules:
            raise ConfigError("flows of a program itself cannot run in processes: put them into a module")
        self._settings = dataclasses.replace(
            settings,
            database=database or settings.database,
            isolation=isolation,
            runners=runners,
            flow_modules=tuple(sorted({*settings.flow_modules, *modules})),
        )
        self._wanted = wanted
        self._shutdown_seconds = shutdown_seconds
        self._rest: Rest = rest
        self._accepting = False
        self._conductor: _Hosted | None = None
        self._ended: asyncio.Future[None] | None = None
        self._shutting: asyncio.Task[ServiceEnd] | None = None
        self._hurried = False  # whoever waits for the shutdown was cancelled
        self.poster = AsyncPoster(self._settings.database, registry=self._registry(), settings=self._settings)

    async def __aenter__(self) -> Service:
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        registry = self._registry() if self._settings.isolation == "thread" else None
        try:
            await self.poster.__aenter__()
            self._conductor = _Hosted(
                self._settings, registry=registry, on_ready=lambda: loop.call_soon_threadsafe(ready.set)
            )
            self._conductor.start()
            self._ended = asyncio.ensure_future(asyncio.to_thread(self._conductor.wait))
            await self._until_set(ready)
        except BaseException:
            await _undisturbed(asyncio.ensure_future(self._give_up()))
            raise
        self._accepting = True
        LOG.info("service.ready runners=%d isolation=%s", self._settings.runners, self._settings.isolation)
        return self

    async def _until_set(self, ready: asyncio.Event) -> None:
        """Wait until the conductor is ready; raises why it cannot start."""
        assert self._ended is not None
        waiting = asyncio.ensure_future(ready.wait())
        try:
            either: set[asyncio.Future[Any]] = {self._ended, waiting}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not ready.is_set():
                await self._ended
        finally:
            waiting.cancel()

    async def _give_up(self) -> None:
        """End what a start that failed, or was cancelled, has begun; nothing of it goes on."""
        if self._conductor is not None and self._ended is not None:
            self._conductor.stop()
            self._conductor.stop()  # it may have claimed a job already
            await asyncio.wait({self._ended})
        await self.poster.close()

    async def __aexit__(self, *exc: object) -> None:
        await self.shutdown()

    @property
    def accepting(self) -> bool:
        """Whether `post` takes new jobs."""
        return self._accepting

    async def post(self, flow: str, params: Any = None, **options: Any) -> Job:
        """As `Poster.post`.

        Raises:
            NotAccepting: it is shutting down.
        """
        if not self._accepting:
            raise NotAccepting("the service takes no new job: it is shutting down")
        return await self.poster.post(flow, params, **options)

    async def cancel(self, job_id: str, reason: str = "", who: str | None = None) -> CancelAnswer:
        """As `Poster.cancel`."""
        return await self.poster.cancel(job_id, reason, who)

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """As `Poster.wait`."""
        return await self.poster.wait(job_id, timeout)

    def follow(self, job_id: str, timeout: float | None = None) -> AsyncIterator[Entry]:
        """As `Poster.follow`."""
        return self.poster.follow(job_id, timeout)

    def stream(self, job_id: str, after: int = 0, timeout: float | None = None) -> AsyncIterator[Chunk]:
        """As `Poster.stream`."""
        return self.poster.stream(job_id, after, timeout)

    async def shutdown(self, timeout: float | None = None, rest: Rest | None = None) -> ServiceEnd:
        """End in phases: accept no more, wait, cancel or release the rest, wait for the undo. One line of log
        for each. Queued jobs stay queued. Called again it returns the same. Whoever is cancelled while he
        waits for it gets his CancelledError once the rest was released, without waiting for it any more.

        Args:
            timeout: seconds for running jobs, instead of `shutdown_seconds`.
            rest: instead of that of the service.
        """
        assert self._conductor is not None, "a service that was not started"
        if self._shutting is None:
            seconds = self._shutdown_seconds if timeout is None else timeout
            self._shutting = asyncio.ensure_future(
                self._shut_down(self._conductor, seconds, rest or self._rest)
            )
        try:
            return await asyncio.shield(self._shutting)
        except asyncio.CancelledError:
            self._hurried = True
            await _undisturbed(self._shutting)
            raise

    async def _shut_down(self, conductor: _Hosted, timeout: float, rest: Rest) -> ServiceEnd:
        try:
            self._accepting, conductor.holding = False, True
            jobs = await self._running()
            LOG.info("service.accepts_no_more running=%d", len(jobs))
            left = await self._until_ended(jobs, timeout)
            LOG.info("service.waited ended=%d running=%d", len(jobs) - len(left), len(left))
            if left and rest == "cancel" and not self._hurried:
                await asyncio.gather(*map(self._cancel_running, left))
                LOG.info("service.cancels jobs=%d", len(left))
                left = await self._until_ended(left, math.inf)
            if left:
                conductor.stop()
                conductor.stop()  # hurry: what runs is cut off where it stands
                LOG.info("service.releases jobs=%d", len(left))
            conductor.stop()
            assert self._ended is not None
            await self._ended
            end = await self._how_ended(jobs)
            LOG.info("service.ended ended=%s released=%d", end.ended, end.released)
            return end
        finally:
            await _undisturbed(asyncio.ensure_future(self._give_up()))

    async def _cancel_running(self, job: str) -> None:
        # It may end, and even be removed, just before.
        with contextlib.suppress(TooLate, JobNotFound):
            await self.poster.cancel(job, "the service is shutting down")

    async def _how_ended(self, jobs: set[str]) -> ServiceEnd:
        states: Counter[str] = Counter()
        for job in jobs:
            with contextlib.suppress(JobNotFound):  # removed since
                states[str((await self.poster.show(job)).state)] += 1
        released = {state: states.pop(state, 0) for state in (JobState.RUNNING, JobState.PENDING)}
        return ServiceEnd(dict(states), sum(released.values()))

    def _registry(self) -> Registry:
        found = load_flows(each for each in self._settings.flow_modules)
        if self._settings.isolation == "process" or any(isinstance(each, str) for each in self._wanted):
            return found
        registry = Registry()
        for definition in found.definitions():
            if definition.factory in self._wanted:
                registry.add(definition)
        return registry

    async def _running(self) -> set[str]:
        assert self._conductor is not None
        owners = self._conductor.owners
        jobs = await self.poster.list(state="running", limit=_MAX_LISTED)
        return {job.id for job in jobs if job.owner in owners}

    async def _until_ended(self, jobs: set[str], timeout: float) -> set[str]:
        """Wait until none of these runs here any more, at most so long; returns those that still do."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        left = jobs
        while left and loop.time() < deadline and not self._hurried:
            left = jobs & await self._running()
            if left:
                await asyncio.sleep(min(_LOOK_SECONDS, max(0.0, deadline - loop.time())))
        return left


async def _undisturbed(future: asyncio.Future[Any]) -> None:
    """Wait for its end, also when who waits is cancelled, who then raises that himself."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({future})


class _Hosted(Conductor):
    """A conductor that can be told to claim nothing new and to go on with what it has."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings, **options)
        self.holding = False
        self.owners: set[str] = set()  # the ids under which it has claimed

    def _claims_of(self, store: Store, owner: str) -> Claims:
        self.owners.add(owner)
        return super()._claims_of(store, owner)

    def _claim(self, desk: Any, held: Any) -> None:
        intake = _NothingNew(desk.intake) if self.holding else desk.intake
        super()._claim(dataclasses.replace(desk, intake=intake), held)


class _NothingNew:
    """The intake of a conductor that holds."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def next(self) -> None:
        return None

    def want(self, places: int) -> None:
        self._intake.want(0)
