"""Poster, the client: post, cancel, retry, show, list, wait, follow, delete; and `Steering`."""

from __future__ import annotations

import builtins
import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, Unpack, cast

import tenacity

from ebbtide.config import Settings, load_settings
from ebbtide.errors import AnswerLost, KeyBusy, StoreUnavailable, UsageError
from ebbtide.flows import Registry, load_flows
from ebbtide.jobs.boards import Notice, open_postings
from ebbtide.jobs.browsing import Browsing
from ebbtide.jobs.cancelling import Cancel
from ebbtide.jobs.catalogue import Catalogue
from ebbtide.jobs.credentials import Credentials
from ebbtide.jobs.deletion import Delete
from ebbtide.jobs.ledger import Ledger
from ebbtide.jobs.many import Answer, Many
from ebbtide.jobs.pausing import Pauses
from ebbtide.jobs.posting import Wishes, WishesByName, checked_post
from ebbtide.jobs.records import CancelAnswer, Entry, Job, LogLine, TaskRecord
from ebbtide.jobs.retention import Retention, kept_days
from ebbtide.jobs.retrying import Retry
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.selection import Selection
from ebbtide.jobs.signals import Signal, open_signal, own_signal
from ebbtide.jobs.states import PHASES, JobState
from ebbtide.jobs.steering import Steering
from ebbtide.jobs.store import Store
from ebbtide.jobs.streams import Streams, rests
from ebbtide.jobs.texts import MAX_REASON, checked_labels, checked_text, is_number
from ebbtide.jobs.views import Views
from ebbtide.tasks import payload

__all__ = ["Poster"]

MAX_LISTED = 100_000
WATCH_SECONDS = 0.1
_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 2.0


class Poster(Steering, Browsing, Streams):
    """The client of one store. Safe to use from several threads; not across a fork.

        with Poster("sqlite:///jobs.db", flow_modules=["myflows"]) as poster:
            job = poster.post("copy", {"source": "/data"})
            poster.cancel(job.id, reason="wrong folder")

    Args:
        database: URL or file; default: the settings' (EBBTIDE_DATABASE, else the user's data folder).
            An empty database is given its tables.
        flow_modules: modules that register flows, besides installed ones; needed to post only.
        registry: the flows to post from, instead of looking for modules.
        max_parameter_bytes: how many bytes the parameters of a job may take, as JSON.
        settings: where the options `signal` and `board` and what belongs to them are read; default: those of
            file and environment. Conductors and posters of a store want the same.
        create: whether a database file that is not there is made. False: StoreUnavailable, unless it is the
            default one, which nobody can have named wrongly.

    A change is signalled to the conductors once it is stored. A signal that cannot be sent is logged and
    changes no answer: they find the change by themselves.

    Every method raises `StoreUnavailable` when the store cannot be reached; then nothing was
    stored, unless it is an `AnswerLost` or a `CommitUnknown`, which say so. Job ids may be shortened to a
    unique prefix everywhere.
    """

    def __init__(
        self,
        database: str | None = None,
        *,
        flow_modules: Iterable[str] = (),
        registry: Registry | None = None,
        max_parameter_bytes: int = payload.MAX_BYTES,
        settings: Settings | None = None,
        create: bool = True,
    ) -> None:
        if not is_number(max_parameter_bytes, int) or max_parameter_bytes < 1:
            raise UsageError("max_parameter_bytes should be a whole number from 1")
        self._max_parameter_bytes = max_parameter_bytes
        self._flow_modules = tuple(flow_modules)
        self._registry = registry
        self._settings = settings = settings or load_settings(database=database)
        with ExitStack() as opened:
            self._store = opened.enter_context(Store(database or settings.database))
            self._signal = opened.enter_context(closing(open_signal(self._store, settings)))
            self._postings = open_postings(settings)
            if self._postings is not None:
                opened.enter_context(closing(self._postings))
            ensure_schema(self._store, create=create)
            opened.pop_all()  # a store that does not fit leaves nothing open
        self._ledger = Ledger(self._store)
        self._many = Many(self._store)
        self._pauses = Pauses(self._store)
        self._views = Views(self._store)
        self.catalogue = Catalogue(self._store)
        self.credentials = Credentials(self._store)

    def __enter__(self) -> Poster:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Send what is still to be signalled and posted, and close the connections. May be called twice."""
        self._signal.close()
        if self._postings is not None:
            self._postings.close()
        self._store.close()

    def signal(self) -> Signal:
        """A signal that rings when the store may have changed; the caller closes it."""
        return own_signal(self._store)

    @property
    def registry(self) -> Registry:
        """The flows known here; modules are imported when it is first needed."""
        if self._registry is None:
            self._registry = load_flows(self._flow_modules)
        return self._registry

    def post(
        self,
        flow: str,
        params: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        who: str | None = None,
        **wishes: Unpack[WishesByName],
    ) -> Job:
        """Put a job on the board. Once this returns it is stored.

        The parameters are checked against the flow's schema, and the flow is built once to see
        that every task of it can be cancelled. A flow that this process does not know is posted by the
        schema that a conductor has published of it, and built by the conductor alone. `wishes` are the
        attributes of `Wishes`: labels, priority, delay_seconds or at, exclusive, on_busy, key, parent and
        detached.

        With an idempotency key that was used before, the job of then is returned.

        Args:
            retry, limits, on_failure: as for `ebbtide.flow`; None: as the flow says, else the options.

        Raises:
            FlowNotFound, ParameterError, FlowRefused, PayloadTooLarge, UsageError.
            KeyReused: the idempotency key is that of another post.
            KeyBusy: the exclusive key is taken, and the post is to be refused then.
            JobNotFound, AmbiguousJob, ParentEnding: the parent is not there, or takes no child any more.
        """
        wanted = Wishes(**wishes)
        if wanted.parent is not None:
            wanted = replace(wanted, parent=self._views.resolve(wanted.parent))
        new = checked_post(
            self._definition(self.registry, flow, version),
            flow,
            params,
            wanted,
            settings=self._settings,
            version=version,
            max_parameter_bytes=self._max_parameter_bytes,
        )
        who = self._checked_who(who)
        new = replace(new, posted_by=self._jobs_of or who)
        try:
            job_id = self._ledger.post(new, who=who)
        except KeyBusy as busy:
            raise KeyBusy(busy.key, self._views.visible(busy.jobs)) from busy
        self._signal.ring(job_id)
        return self._posted(self._stored(job_id))

    def cancel(self, job_id: str, reason: str = "", who: str | None = None) -> CancelAnswer:
        """Ask for a job to be stopped and undone. The request is stored before this returns.

        Asking twice is asking once: the second caller learns the first reason. White space in
        `reason` and `who` is folded: each is shown on one line.

        Raises:
            TooLate: the job has completed or failed.
            JobNotFound, AmbiguousJob, UsageError.
        """
        reason = checked_text(reason, "the reason", MAX_REASON)
        who = self._checked_who(who)
        full = self._views.resolve(job_id, changed=True)
        answer = self._ledger.cancel(
            full, reason=reason, who=who, ahead=lambda: self._signal.ring_ahead(full)
        )
        self._signal.ring(full)
        return CancelAnswer(self._stored(full), cast(Any, answer))

    def retry(self, job_id: str, *, from_failure: bool = False) -> Job:
        """Run a failed or cancelled job once more: same id, next attempt.

        With `from_failure` a job that holds goes on instead at the task that failed, in the same attempt:
        what it had done before is still there.

        Raises:
            EdgeRefused: it is neither; or it does not hold.
        """
        full = self._views.resolve(job_id, changed=True)
        if from_failure:
            self._ledger.retry_from_failure(full, who=self._actor())
        else:
            self._ledger.retry(full, who=self._actor())
        self._signal.ring(full)
        return self._posted(self._stored(full))

    def _posted(self, job: Job) -> Job:
        """The job, once it is on its way to the board, if it is due: nobody waits for that, and what does not
        come there is posted by the conductors.
        """
        if self._postings is not None and job.phase == JobState.PENDING.value:
            key = f"{job.flow}@{job.version}"
            self._postings.put(job.id, Notice(job.id, key, job.priority, job.due_at))
        return job

    def _stored(self, job_id: str) -> Job:
        """The job after a change that is stored: a store that fails now must not deny that."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreUnavailable),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            stop=tenacity.stop_after_delay(_ANSWER_SECONDS),
            reraise=True,
        )
        try:
            return attempts(self._views.job, job_id)
        except StoreUnavailable as error:
            raise AnswerLost(job_id, str(error)) from error

    def delete(self, job_id: str, who: str | None = None) -> str:
        """Remove a job with its history; returns what it was answered.

        ``deleted``: it had ended or never begun, and is gone. ``accepted``: it is cancelled and undone first,
        and removed with its end; ``already requested`` the next time. One that parks on its way there stays
        until a person has unparked or accepted it.
        """
        full = self._views.resolve(job_id, changed=True)
        answer = self._ledger.delete(full, who=self._checked_who(who))
        self._signal.ring(full)
        return answer

    def cancel_many(
        self, selection: Selection, reason: str = "", who: str | None = None, *, dry_run: bool = False
    ) -> builtins.list[Answer]:
        """`cancel` for each job of a selection, a thousand in each transaction; what each was answered.

        A store that goes away in the middle raises nothing: the jobs that it did not take are answered so.

        Args:
            dry_run: change nothing, and tell what would be answered.

        Raises:
            UsageError: the selection names nothing, or no such state.
            StoreUnavailable: the store was away before the first job.
        """
        reason = checked_text(reason, "the reason", MAX_REASON)
        return self._ask_many(Cancel(self._checked_who(who), reason=reason), selection, dry_run)

    def retry_many(
        self, selection: Selection, who: str | None = None, *, dry_run: bool = False
    ) -> builtins.list[Answer]:
        """`retry` for each job of a selection; see `cancel_many`."""
        return self._ask_many(Retry(self._checked_who(who)), selection, dry_run)

    def delete_many(
        self, selection: Selection, who: str | None = None, *, dry_run: bool = False
    ) -> builtins.list[Answer]:
        """`delete` for each job of a selection; see `cancel_many`."""
        return self._ask_many(Delete(self._checked_who(who)), selection, dry_run)

    def prune(self, days: Mapping[str, float] | None = None, *, dry_run: bool = False) -> dict[str, int]:
        """Remove jobs that have ended longer ago than `days` says, by state; returns how many, by state.

        Conductors do so by themselves, as the options `keep_completed_days` and its like say.

        Args:
            days: such as ``{"completed": 30}``; a state that is not named is kept. None: as the options say.
            dry_run: remove nothing, and say how many it would be.

        Raises:
            UsageError: of a state that is not final, or no number of days.
        """
        retention = Retention(self._store, kept_days(self._settings) if days is None else days)
        return retention.count() if dry_run else retention.prune()

    def show(self, job_id: str) -> Job:
        """The job as it stands."""
        return self._views.job(self._views.resolve(job_id))

    def list(
        self,
        *,
        state: str | None = None,
        flow: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> builtins.list[Job]:
        """Jobs, newest first; `state` takes the words of state and phase."""
        if state is not None and state not in PHASES:
            raise UsageError(f"no such state: {state[:40]!r}; one of {', '.join(PHASES)}")
        wanted = checked_labels(labels or {})
        return self._views.jobs(state=state, flow=flow, labels=wanted, limit=_checked_limit(limit))

    def tasks(self, job_id: str, attempt: int | None = None) -> builtins.list[TaskRecord]:
        """What began, in order; of one attempt, or of all."""
        return self._views.tasks(self._views.resolve(job_id), attempt)

    def entries(self, job_id: str, after: int = 0) -> builtins.list[Entry]:
        """The job's history beyond entry `after`."""
        return self._views.entries(self._views.resolve(job_id), after)

    def logs(self, job_id: str, after: int = 0, limit: int = 1000) -> builtins.list[LogLine]:
        """What its tasks logged and printed, beyond line `after`."""
        return self._views.logs(self._views.resolve(job_id), after, _checked_limit(limit))

    def result(self, job_id: str) -> Any:
        """The result of a completed job. Raises EdgeRefused for any other."""
        return self._views.result(self._views.resolve(job_id))

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Wait until the job is final, or parked; returns it.

        Raises:
            TimeoutError: `timeout` seconds have passed. The job goes on.
        """
        full = self._views.resolve(job_id)
        for _ in self._changes(timeout):
            job = self._views.job(full)
            if rests(job):
                return job
        raise TimeoutError(f"job {full} is still {job.phase} after {timeout} seconds")

    def follow(self, job_id: str, timeout: float | None = None) -> Iterator[Entry]:
        """The job's history as it grows, from its first entry; ends when the job is final or parked.

        Raises:
            TimeoutError: as `wait`.
        """
        full = self._views.resolve(job_id)
        seen = 0
        for _ in self._changes(timeout):
            # The job is read first: what it has come to then is surely among the entries read after it.
            job = self._views.job(full)
            for entry in self._views.entries(full, seen):
                seen = entry.number
                yield entry
            if rests(job):
                return
        raise TimeoutError(f"job {full} is still {job.phase} after {timeout} seconds")

    def watch(self, job_id: str, seconds: float = WATCH_SECONDS) -> Iterator[Job]:
        """The job every `seconds`, and once it has come to rest, which ends it."""
        while not rests(job := self.show(job_id)):
            yield job
            with contextlib.suppress(TimeoutError):
                self.wait(job_id, seconds)
        yield job

    def _changes(self, timeout: float | None, sweep_seconds: float = math.inf) -> Iterator[None]:
        """Yields at once, then whenever the store may have changed, until `timeout` seconds have passed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        signal = self.signal()
        sweep_seconds = min(sweep_seconds, signal.sweep_seconds)
        try:
            while True:
                signal.changed()
                yield
                looked = time.monotonic()
                while not signal.changed() and time.monotonic() - looked < sweep_seconds:
                    if deadline is not None and time.monotonic() >= deadline:
                        return
                    signal.pause(_POLL_SECONDS)
                if deadline is not None and time.monotonic() >= deadline:
                    return
        finally:
            signal.close()


def _checked_limit(limit: int) -> int:
    if not is_number(limit, int) or not 1 <= limit <= MAX_LISTED:
        raise UsageError(f"the limit should be a whole number of 1 to {MAX_LISTED}")
    return limit
