"""The conductor: claims jobs, watches their runs, forwards cancels, drains."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ebbtide import faults
from ebbtide.conductor.duties import Duties
from ebbtide.conductor.intake import Intake
from ebbtide.conductor.lease import Lease
from ebbtide.conductor.options import RunOptions
from ebbtide.conductor.processes import ProcessRunners
from ebbtide.conductor.runners import AtRest, Ended, News, Overdue, Runners, Suspending
from ebbtide.conductor.stopsignals import stop_signals
from ebbtide.conductor.threads import ThreadRunners
from ebbtide.config import Settings
from ebbtide.errors import ConfigError, EbbtideError, StoreUnavailable
from ebbtide.flows import Registry, load_flows
from ebbtide.jobs import clock
from ebbtide.jobs.boards import Board, open_boards
from ebbtide.jobs.catalogue import Catalogue
from ebbtide.jobs.claims import Claim, Claims, new_owner_id
from ebbtide.jobs.inbox import Inbox, open_inbox
from ebbtide.jobs.overdue import clear_overdue, mark_overdue
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.signals import Signal, open_signal
from ebbtide.jobs.store import Store
from ebbtide.wording import counted

__all__ = ["Conductor"]

LOG = logging.getLogger(__name__)

# How long the loop may wait where a signal wakes it: a drain, and what is due by time, wait with it.
_LISTEN_SECONDS = 0.1


@dataclass(frozen=True)
class _Desk:
    """What the loop works with."""

    store: Store
    claims: Claims
    runners: Runners
    lease: Lease
    signal: Signal
    inbox: Inbox | None
    intake: Intake
    duties: Duties


class Conductor:
    """Runs jobs of one store until it is told to stop. It does no work itself: its runners do.

    Args:
        settings: the options.
        registry: the flows; default: those of installed packages and `settings.flow_modules`. Runner
            processes import theirs, so a registry of one's own needs ``isolation="thread"``.
        on_ready: called once it claims jobs.

    Raises:
        ConfigError: a registry with runner processes, which could not see it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        registry: Registry | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        if registry is not None and settings.isolation == "process":
            raise ConfigError(
                'runner processes import their flows: name modules in flow_modules, or use isolation "thread"'
            )
        self._settings = settings
        self._registry = registry
        self._on_ready = on_ready or (lambda: None)
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._stops = 0  # how often it was told to; written by signal handlers and `stop`
        self._served = False  # whether it has registered once
        self._suspended = False
        self._hurried = False
        self._waiting: list[Claim] = []  # claimed again after a runner's death, no idle runner yet
        # How the runner of a job died, by job and epoch, until the job is taken up again.
        self._deaths: dict[tuple[str, int], Ended] = {}
        self._given: set[tuple[str, int]] = set()  # what runners were given, by job and epoch
        self._untold: list[Overdue | AtRest] = []  # what is not in the store yet
        self._thread: threading.Thread | None = None
        self._raised: BaseException | None = None

    def run(self) -> None:
        """Run until SIGTERM, SIGINT or `stop`, then drain and return. A second signal hurries.

        A conductor that loses its lease ends its runs where they stand, since others may have taken
        its jobs, and begins anew under another owner id.

        Draining: no more claims; running tasks may end, what remains of their jobs is released.
        Hurrying: the runners are killed; their jobs are taken up by another conductor, or the next one.

        Raises:
            EbbtideError: it could not start, or its keeper died.
        """
        with stop_signals(self.stop), self._open_store() as store:
            ensure_schema(store)
            registry = self._registry or load_flows(self._settings.flow_modules)
            Catalogue(store).publish(registry.definitions())
            # What cannot be used of them is for the caller to know. The signal closes last, as it may wait.
            open_board = open_boards(self._settings)
            with contextlib.closing(open_signal(store, self._settings)) as hint:
                while not self._serve(store, registry, hint, open_board):
                    self._waiting.clear()
                    self._deaths.clear()
                    self._given.clear()
                    self._untold.clear()

    def start(self) -> None:
        """`run` in a thread of its own."""

        def target() -> None:
            try:
                self.run()
            except BaseException as error:  # noqa: BLE001  # `wait` raises it
                self._raised = error

        self._thread = threading.Thread(target=target, name="ebbtide-conductor")
        self._thread.start()

    def stop(self) -> None:
        """Begin to drain; a second call hurries. Returns at once; from any thread, also before `start`."""
        self._stops += 1

    def wait(self) -> None:
        """Wait until a conductor that was started has ended; raises what its `run` raised."""
        if self._thread is not None:
            self._thread.join()
        if self._raised is not None:
            raise self._raised

    def _serve(
        self, store: Store, registry: Registry, hint: Signal, open_board: Callable[[], Board] | None
    ) -> bool:
        """Under one owner id: register, run jobs, end. False: the lease was lost."""
        settings = self._settings
        claims = self._claims_of(store, new_owner_id())
        runners = self._start_runners(store, registry, claims.owner)
        if runners is None:
            return True
        # What the runners can run, and nothing that only this process knows: it would park there.
        keys = sorted(runners.keys)
        # The lease has a connection of its own: no crowd at the store, and no long transaction, is before it.
        own = self._open_store()
        try:
            lease = self._register(self._claims_of(own, claims.owner), keys, runners)
            if lease is None:
                return True
            lease.start()
            try:
                LOG.info(
                    "conductor.ready %s runners=%d flows=%s", claims.owner, settings.runners, ",".join(keys)
                )
                self._on_ready()
                inbox = open_inbox(store, settings, hint)
                duties = Duties(store, claims.owner, settings)
                with contextlib.closing(Intake(store, claims, keys, settings, open_board)) as intake:
                    return self._loop(_Desk(store, claims, runners, lease, hint, inbox, intake, duties))
            finally:
                lease.stop()
        finally:
            runners.close()
            # Only now: nothing of ours lives, so what we still hold may be claimed at once.
            with contextlib.suppress(StoreUnavailable):
                claims.release()
            own.close()
            LOG.info("conductor.ended %s", claims.owner)

    def _open_store(self) -> Store:
        # No statement waits for so long that the lease would be over by itself meanwhile.
        return Store(self._settings.database, wait_seconds=self._settings.self_fence_seconds / 2)

    def _claims_of(self, store: Store, owner: str) -> Claims:
        return Claims(store, owner, name=self._name, lease_seconds=self._settings.lease_seconds)

    def _register(self, claims: Claims, keys: list[str], runners: Runners) -> Lease | None:
        """Say that this conductor is here; None: it was told to stop before it could.

        A store that is away when the conductor starts is for the caller to know. One that took a
        lease with it is waited for.
        """
        settings = self._settings
        while True:
            # Made first: the lease counts from before the row that grants it.
            lease = Lease(
                claims,
                renew_seconds=settings.renew_seconds,
                self_fence_seconds=settings.self_fence_seconds,
                on_renewed=runners.hold_until,
            )
            try:
                claims.register(flows=keys, runners=settings.runners, isolation=settings.isolation)
            except StoreUnavailable as error:
                if not self._served:
                    raise
                LOG.warning("conductor.store_unavailable: %s", error)
                if self._stops:
                    return None
                threading.Event().wait(settings.sweep_seconds)
            else:
                self._served = True
                return lease

    def _start_runners(self, store: Store, registry: Registry, owner: str) -> Runners | None:
        """The runners, once they are up; None: the conductor was told to stop before that.

        That they do not come up when it starts is for the caller to know. When it begins anew they were up
        before, and one that was killed at its start is no reason to end: they are started until they come up.
        """
        while True:
            try:
                return self._runners(store, registry, owner)
            except EbbtideError as error:
                if self._stops:
                    return None
                if not self._served or isinstance(error, ConfigError):
                    raise
                LOG.warning("conductor.runners_not_up: %s", error)
                threading.Event().wait(self._settings.sweep_seconds)

    def _runners(self, store: Store, registry: Registry, owner: str) -> Runners:
        settings = self._settings
        options = RunOptions.of(settings, store.url, owner)
        if settings.isolation == "thread":
            return ThreadRunners(settings.runners, options, store, registry)
        return ProcessRunners(settings.runners, options, stopped=lambda: self._stops > 0)

    def _loop(self, desk: _Desk) -> bool:
        """Hear the runners, forward cancels, claim. True: drained or hurried. False: the lease is over."""
        held: dict[str, Claim] = {}
        next_sweep = 0.0
        while True:
            bell = desk.signal.descriptor
            seconds = self._settings.poll_seconds if bell is None else _LISTEN_SECONDS
            news = desk.runners.poll(seconds, *(() if bell is None else (bell,)), *desk.intake.bells)
            for each in news:
                self._hear(held, each)
            if self._stops:
                self._drain(desk, at_work=len(held))
                if not held or self._hurried:
                    with self._store_may_be_away():
                        self._tell(desk)
                    return True
            if desk.lease.over:
                LOG.error("conductor.lease_over %s: its runs are ended", desk.claims.owner)
                desk.runners.end_all()  # now: to stop a renewal that waits for the store may take long
                return False
            # The signal is a hint. Once a second the rows are read whatever it says.
            now = time.monotonic()
            told, offered = desk.signal.changed(), desk.intake.heard()
            if told:
                desk.intake.look()
            if told or offered or news or now >= next_sweep or (self._waiting and desk.runners.idle):
                next_sweep = now + self._settings.sweep_seconds
                with self._store_may_be_away():
                    self._forward(desk)  # first: somebody waits for it
                    if desk.duties.record_limits():
                        self._forward(desk)
                    self._tell(desk)
                    if not self._stops:
                        self._adopt(desk, held)
                        self._claim(desk, held)
                # By itself, and last: a request that hangs keeps nothing else from what it does.
                with self._store_may_be_away():
                    if desk.inbox is not None and desk.inbox.record():
                        next_sweep = now
                with self._store_may_be_away():
                    if not self._stops:
                        desk.duties.prune()

    def _adopt(self, desk: _Desk, held: dict[str, Claim]) -> None:
        """Take up again what the ledger says is ours and nobody here runs.

        Its runner died, its run gave the claim up while the store was away, or the answer to our
        claim was lost: whichever, nothing of it lives here, and nobody else may take it.
        """
        running = held.keys() | {claim.job_id for claim in self._waiting}
        ours = desk.claims.held()
        self._deaths = {key: death for key, death in self._deaths.items() if key in ours.items()}
        self._given.intersection_update(ours.items())
        for job_id, epoch in ours.items():
            if job_id not in running:
                death = self._deaths.get((job_id, epoch))
                cause = death.cause if death else "its run was not heard of again"
                ended_in, hung = (death.ended_in, death.hung) if death else (None, {})
                begun = (job_id, epoch) in self._given
                claim = desk.claims.reclaim(job_id, epoch, cause, ended_in=ended_in, begun=begun, hung=hung)
                if claim is not None:
                    self._waiting.append(claim)

    def _claim(self, desk: _Desk, held: dict[str, Claim]) -> None:
        while desk.runners.idle:
            claim = self._waiting.pop() if self._waiting else desk.intake.next()
            if claim is None:
                break
            LOG.info(
                "job.claimed %s %s attempt=%d epoch=%d", claim.job_id, claim.key, claim.attempt, claim.epoch
            )
            faults.point("conductor.claimed")
            if not desk.runners.run(claim):
                # A runner that was idle has just died: the claim waits for the next.
                self._waiting.append(claim)
                return
            held[claim.job_id] = claim
            self._given.add((claim.job_id, claim.epoch))
        desk.intake.want(desk.runners.idle)

    def _forward(self, desk: _Desk) -> None:
        for request in desk.claims.requests():
            at = clock.wall()
            if desk.runners.cancel(request):
                desk.claims.forwarded(request, at)
                LOG.info("job.cancel_forwarded %s", request.job_id)

        for job_id, epoch in desk.claims.to_pause():
            desk.runners.pause(job_id, epoch)

    def _tell(self, desk: _Desk) -> None:
        """Store which runs are overdue; what a store that is away does not take is kept for later."""
        while self._untold:
            news = self._untold[0]
            if isinstance(news, Overdue):
                mark_overdue(
                    desk.store,
                    news.claim,
                    at=news.at,
                    grace_seconds=news.grace_seconds,
                    actor=desk.claims.owner,
                )
            else:
                clear_overdue(desk.store, news.claim)
            self._untold.pop(0)

    def _hear(self, held: dict[str, Claim], news: News) -> None:
        job_id = news.claim.job_id
        if isinstance(news, Ended):
            self._settle(held, news)
            return
        if isinstance(news, Suspending):
            LOG.info("job.suspending %s", job_id)
            return
        self._untold.append(news)
        if isinstance(news, Overdue):
            LOG.warning("job.overdue %s: it did not stop within %g s", job_id, news.grace_seconds)
        else:
            LOG.info("job.at_rest %s", job_id)

    def _settle(self, held: dict[str, Claim], end: Ended) -> None:
        """A run is over. Where its runner died, `_adopt` takes the job up again."""
        job_id = end.claim.job_id
        # A job that was retried at once may run in another runner already: that run is not over.
        mine = held.get(job_id) == end.claim
        if mine:
            del held[job_id]
        if end.edge is not None:
            LOG.info("job.%s %s attempt=%d", end.edge, job_id, end.claim.attempt)
            return
        took = "" if end.ended_in is None else f" within {1000 * end.ended_in:.0f} ms"
        LOG.warning("job.interrupted %s: %s%s", job_id, end.cause, took)
        if mine:
            self._deaths[job_id, end.claim.epoch] = end

    def _drain(self, desk: _Desk, at_work: int) -> None:
        if not self._suspended:
            self._suspended = True
            desk.runners.suspend()
            waits = f": the tasks of {counted(at_work, 'job')} may end first; a second signal hurries"
            # Once the runners were sent their word. One that has not read it yet may begin one more task.
            LOG.info("conductor.draining%s", waits if at_work else "")
        with self._store_may_be_away():
            while self._waiting:
                desk.claims.hand_back(self._waiting[-1])
                self._waiting.pop()
        if self._stops > 1 and not self._hurried:
            self._hurried = True
            LOG.warning("conductor.hurried: runs are ended where they stand")

    @contextlib.contextmanager
    def _store_may_be_away(self) -> Iterator[None]:
        """The sweep tries again; what is to be done stands in the store, not here."""
        try:
            yield
        except StoreUnavailable as error:
            LOG.warning("conductor.store_unavailable: %s", error)
