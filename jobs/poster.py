"""Poster, the client: post, cancel, retry, unpark, accept, show, list, wait, follow, delete."""

from __future__ import annotations

import builtins
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import tenacity

from ebbtide.config import Settings, load_settings
from ebbtide.errors import AnswerLost, PayloadTooLarge, StoreUnavailable, UsageError
from ebbtide.flows import Registry, load_flows
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.records import CancelAnswer, Chunk, Entry, Job, LogLine, TaskRecord
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.signals import Signal, open_signal, own_signal
from ebbtide.jobs.states import FINAL_STATES, PHASES, JobState
from ebbtide.jobs.store import Store
from ebbtide.jobs.texts import MAX_REASON, MAX_WHO, checked_text, whoami
from ebbtide.jobs.views import Views
from ebbtide.tasks import payload

__all__ = ["Poster", "rests"]

MAX_LABEL = 255
MAX_LISTED = 100_000
MAX_PRIORITY = 1000
MAX_DELAY_SECONDS = 10 * 365 * 86400
_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 2.0
_STREAM_SECONDS = 0.1  # a commit that brings chunks alone rings nowhere on a server


class Poster:
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
        settings: where the option `signal` and what belongs to it are read; default: those of file and
            environment. Conductors and posters of a store want the same.

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
    ) -> None:
        if not _is_number(max_parameter_bytes, int) or max_parameter_bytes < 1:
            raise UsageError("max_parameter_bytes should be a whole number from 1")
        self._max_parameter_bytes = max_parameter_bytes
        self._flow_modules = tuple(flow_modules)
        self._registry = registry
        settings = settings or load_settings(database=database)
        self._store = Store(database or settings.database)
        self._signal = open_signal(self._store, settings)
        ensure_schema(self._store)
        self._ledger = Ledger(self._store)
        self._views = Views(self._store)

    def __enter__(self) -> Poster:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Send what is still to be signalled, and close the connections. May be called twice."""
        self._signal.close()
        self._store.close()

    def signal(self) -> Signal:
        """A signal that rings when the store may have changed; the caller closes it."""
        return own_signal(self._store)

    def marks(self, job_ids: Iterable[str]) -> dict[str, object]:
        """By full id, for each job that there is, something that is another after each change of it."""
        return self._views.marks(job_ids)

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
        labels: Mapping[str, str] | None = None,
        priority: int = 0,
        delay_seconds: float = 0.0,
    ) -> Job:
        """Put a job on the board. Once this returns it is stored.

        The parameters are checked against the flow's schema, and the flow is built once to see
        that every task of it can be cancelled.

        Raises:
            FlowNotFound, ParameterError, FlowRefused, PayloadTooLarge, UsageError.
        """
        definition = self.registry.get(flow, version)
        if not isinstance(params or {}, Mapping):
            raise UsageError(f"parameters are given by name, in a mapping, not as a {type(params).__name__}")
        canonical = definition.validate(params or {})
        text = _encoded(canonical, "the parameters", self._max_parameter_bytes)
        definition.build(canonical)
        wanted = _checked_labels(labels or {})
        if not _is_number(priority, int) or abs(priority) > MAX_PRIORITY:
            raise UsageError(f"the priority should be a whole number of -{MAX_PRIORITY} to {MAX_PRIORITY}")
        if not _is_number(delay_seconds, (int, float)) or not 0 <= delay_seconds <= MAX_DELAY_SECONDS:
            raise UsageError(f"the delay should be a number of seconds, 0 to {MAX_DELAY_SECONDS}")
        new = NewJob(
            flow=definition.name,
            version=definition.version,
            parameters=text,
            labels_text=_encoded(wanted, "the labels", payload.MAX_BYTES),
            labels=wanted,
            priority=priority,
            delay_seconds=delay_seconds,
        )
        job_id = self._ledger.post(new, who=whoami())
        self._signal.ring(job_id)
        return self._stored(job_id)

    def cancel(self, job_id: str, reason: str = "", who: str | None = None) -> CancelAnswer:
        """Ask for a job to be stopped and undone. The request is stored before this returns.

        Asking twice is asking once: the second caller learns the first reason. White space in
        `reason` and `who` is folded: each is shown on one line.

        Raises:
            TooLate: the job has completed or failed.
            JobNotFound, AmbiguousJob, UsageError.
        """
        reason = checked_text(reason, "the reason", MAX_REASON)
        who = whoami() if who is None else checked_text(who, "who asks", MAX_WHO)
        full = self._views.resolve(job_id)
        answer = self._ledger.cancel(full, reason=reason, who=who or whoami())
        self._signal.ring(full)
        return CancelAnswer(self._stored(full), cast(Any, answer))

    def retry(self, job_id: str) -> Job:
        """Run a failed or cancelled job once more: same id, next attempt.

        Raises:
            EdgeRefused: it is neither.
        """
        full = self._views.resolve(job_id)
        self._ledger.retry(full, who=whoami())
        self._signal.ring(full)
        return self._stored(full)

    def unpark(self, job_id: str) -> Job:
        """Let a parked job go on, once what parked it is mended.

        What could not be undone is tried again, with its true result; then what was held is undone. A
        job that nothing had failed to undo in goes on where it was.

        Raises:
            EdgeRefused: it is not parked.
        """
        full = self._views.resolve(job_id)
        self._ledger.unpark(full, who=whoami())
        self._signal.ring(full)
        return self._stored(full)

    def accept(self, job_id: str, reason: str) -> Job:
        """End a parked job as it is: `cancelled` if that was requested, else `failed`. Nothing is undone.

        Raises:
            UsageError: no reason is given.
            EdgeRefused: it is not parked.
        """
        reason = checked_text(reason, "the reason", MAX_REASON)
        if not reason:
            raise UsageError("a reason is wanted: say why the job may stay as it is")
        full = self._views.resolve(job_id)
        self._ledger.accept(full, reason=reason, who=whoami())
        self._signal.ring(full)
        return self._stored(full)

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

    def delete(self, job_id: str) -> None:
        """Remove a job that has ended, or that never began, with its history.

        Raises:
            EdgeRefused: it is at work; cancel it first.
        """
        self._ledger.delete(self._views.resolve(job_id))

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
        wanted = _checked_labels(labels or {})
        if flow is not None and payload.storable(flow) != flow:
            return []  # no store takes such a text, so no job has it
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

    def chunks(self, job_id: str, after: int = 0) -> builtins.list[Chunk]:
        """What its tasks have streamed beyond chunk `after`, as far as it is kept; not all at once, perhaps:
        there is no more when nothing comes.
        """
        return self._views.chunks(self._views.resolve(job_id), after)

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

    def stream(self, job_id: str, after: int = 0, timeout: float | None = None) -> Iterator[Chunk]:
        """What its tasks stream, from the chunk after `after` on, as it comes; ends when the job is final or
        parked. After a cancel that is the partial result.

        Raises:
            TimeoutError: as `wait`.
        """
        full = self._views.resolve(job_id)
        for _ in self._changes(timeout, _STREAM_SECONDS):
            # In this order for the same reason as in `follow`.
            job = self._views.job(full)
            while chunks := self._views.chunks(full, after):
                after = chunks[-1].number
                yield from chunks
            if rests(job):
                return
        raise TimeoutError(f"job {full} is still {job.phase} after {timeout} seconds")

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


def rests(job: Job) -> bool:
    """Whether nothing happens to it by itself any more."""
    return JobState(job.state) in FINAL_STATES or job.state == JobState.PARKED


def _encoded(value: Any, what: str, max_bytes: int) -> str:
    text = payload.encode(value, what, max_bytes=1 << 62)
    if len(text) > max_bytes:
        raise PayloadTooLarge(what, len(text), max_bytes)
    return text


def _is_number(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _checked_limit(limit: int) -> int:
    if not _is_number(limit, int) or not 1 <= limit <= MAX_LISTED:
        raise UsageError(f"the limit should be a whole number of 1 to {MAX_LISTED}")
    return limit


def _checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(labels, Mapping):
        raise UsageError(f"labels are given by key, in a mapping, not as a {type(labels).__name__}")
    for key, value in labels.items():
        for text in (key, value):
            if not isinstance(text, str) or not text or len(text) > MAX_LABEL or not text.isprintable():
                raise UsageError(
                    f"label {str(key)[:40]!r}: key and value are printable, of 1 to {MAX_LABEL} characters"
                )
    return dict(labels)
