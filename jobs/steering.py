"""What a client does with a job between its post and its end, and what it is told of its undo."""

from __future__ import annotations

import abc
import builtins
from typing import Any, cast

from ebbtide.errors import FlowNotFound, JobNotFound, UsageError
from ebbtide.flows import Registry
from ebbtide.jobs.acting import Acting
from ebbtide.jobs.acts import Choices, choices
from ebbtide.jobs.ledger import Ledger
from ebbtide.jobs.many import Answer
from ebbtide.jobs.pausing import EVERY_VERSION, Pause, Pauses, Resume
from ebbtide.jobs.preview import Preview, preview
from ebbtide.jobs.receipt import Receipt, receipt
from ebbtide.jobs.records import Job, JobAnswer
from ebbtide.jobs.selection import Selection
from ebbtide.jobs.shapes import order_in
from ebbtide.jobs.signals import Signal
from ebbtide.jobs.texts import MAX_REASON, checked_text
from ebbtide.jobs.verbs import Verb

__all__ = ["Steering"]


class Steering(Acting, abc.ABC):
    """Part of `Poster`, which says what holds of every method."""

    _ledger: Ledger
    _pauses: Pauses
    _signal: Signal

    @abc.abstractmethod
    def _stored(self, job_id: str) -> Job:
        """The job after a change that is stored."""

    @abc.abstractmethod
    def _posted(self, job: Job) -> Job:
        """The job, once it is on its way to the board, if it is due."""

    @property
    @abc.abstractmethod
    def registry(self) -> Registry:
        """The flows known here."""

    def preview(self, job_id: str) -> Preview:
        """What a cancel would undo now, in which order, and how long that took in the past. Changes nothing.

        Where the job's flow is not known here, its order is as the runner of its attempt has stored it;
        without that it is the order of beginning alone, and the preview says so.
        """
        job = self._views.job(self._views.resolve(job_id))
        try:
            flow, _ = self.registry.get(job.flow, job.version).build(job.params)
        except (FlowNotFound, UsageError):
            shape = self._views.graph(job.id)
            return preview(self._store, job.id, None if shape is None else order_in(shape))
        from ebbtide.flows.order import predecessors  # it loads TaskFlow's engines

        return preview(self._store, job.id, predecessors(flow))

    def receipt(self, job_id: str) -> Receipt:
        """What became of the undo of a job's attempt: who wanted it, when what happened, what was undone."""
        return receipt(self._store, self._views.resolve(job_id))

    def pause(self, job_id: str) -> JobAnswer:
        """Let a job rest: a waiting one at once, a running one between tasks. Nothing is undone.

        A running job may end before it comes to rest, and stays ended. A cancel wins over a pause.

        Raises:
            EdgeRefused: it is parked, has ended, or is to be cancelled.
        """
        full = self._views.resolve(job_id)
        answer = self._pauses.pause(full, who=self._actor())
        self._signal.ring(full)
        return JobAnswer(self._stored(full), cast(Any, answer))

    def resume(self, job_id: str) -> Job:
        """Let a paused job go on where it was. One that has not come to rest yet goes on as well.

        Raises:
            EdgeRefused: it is neither paused nor to be paused.
        """
        full = self._views.resolve(job_id)
        self._pauses.resume(full, who=self._actor())
        self._signal.ring(full)
        return self._posted(self._stored(full))

    def pause_many(
        self, selection: Selection, who: str | None = None, *, dry_run: bool = False
    ) -> builtins.list[Answer]:
        """`pause` for each job of a selection; see `cancel_many`.

        It is about jobs that there are: `pause_flow` is about those to come.
        """
        return self._ask_many(Pause(self._checked_who(who)), selection, dry_run)

    def resume_many(
        self, selection: Selection, who: str | None = None, *, dry_run: bool = False
    ) -> builtins.list[Answer]:
        """`resume` for each job of a selection; see `cancel_many`."""
        return self._ask_many(Resume(self._checked_who(who)), selection, dry_run)

    def _ask_many(self, verb: Verb, selection: Selection, dry_run: bool) -> builtins.list[Answer]:
        selection.check()
        if dry_run:
            return builtins.list(self._many.foreseen(verb, selection))
        return builtins.list(self._many.answers(verb, selection, stored=self._signal.ring))

    def rewind(self, job_id: str, savepoint: str) -> JobAnswer:
        """Have what came after a savepoint undone, newest first; then the job is `paused`, to be resumed.

        Returns once that is stored; the undo may take longer. Work that is finished meanwhile is undone as
        well. A job that fails meanwhile is undone as a whole, and a cancel wins at any time.

        Raises:
            SavepointNotReached: it has not come to a savepoint of that name, or not any more.
            EdgeRefused: it is parked, has ended, is to be cancelled, or is being undone anyway.
        """
        full = self._views.resolve(job_id)
        answer = self._pauses.rewind(full, savepoint, who=self._actor())
        self._signal.ring(full)
        return JobAnswer(self._stored(full), cast(Any, answer))

    def choices(self, job_id: str) -> Choices:
        """What may be asked of a job now: which of pause, cancel, retry and so on would be accepted."""
        return choices(self._store, self._views.resolve(job_id))

    def savepoints(self, job_id: str) -> list[str]:
        """The savepoints to which a job can be rewound, in the order in which it came to them."""
        return self._pauses.savepoints(self._views.resolve(job_id))

    def unpark(self, job_id: str, *, skip: str | None = None, reason: str = "") -> Job:
        """Let a parked job go on, once what parked it is mended.

        What could not be undone is tried again, with its true result; then what was held is undone. A
        job that nothing had failed to undo in goes on where it was.

        Args:
            skip: a task whose undo is left out: what it did stays, and is listed as not undone for ever.
            reason: why; wanted with `skip`.

        Raises:
            UsageError: no undo of `skip` has failed, or no reason is given.
            EdgeRefused: it is not parked.
        """
        reason = checked_text(reason, "the reason", MAX_REASON)
        if skip is not None and not reason:
            raise UsageError("a reason is wanted: say why that undo may be left out")
        if skip is None and reason:
            raise UsageError("a reason is for an undo that is left out: name its task as well")
        before = self._views.job(self._views.resolve(job_id))
        self._ledger.unpark(before.id, who=self._actor(), skip=skip, reason=reason)
        self._signal.ring(before.id)
        return self._posted(self._stored_unless_gone(before))

    def accept(self, job_id: str, reason: str) -> Job:
        """End a parked job as it is: `cancelled` if that was requested, else `failed`. Nothing is undone.

        Raises:
            UsageError: no reason is given.
            EdgeRefused: it is not parked.
        """
        reason = checked_text(reason, "the reason", MAX_REASON)
        if not reason:
            raise UsageError("a reason is wanted: say why the job may stay as it is")
        before = self._views.job(self._views.resolve(job_id))
        self._ledger.accept(before.id, reason=reason, who=self._actor())
        self._signal.ring(before.id)
        return self._stored_unless_gone(before)

    def _stored_unless_gone(self, before: Job) -> Job:
        """The job after a change by which it may have ended; as it was, if it was to be deleted then."""
        try:
            return self._stored(before.id)
        except JobNotFound:
            return before

    def pause_flow(self, flow: str, version: int | None = None) -> bool:
        """Let no conductor take up a job of a flow, unless it is to be cancelled; what runs goes on.

        Args:
            version: None: every version.

        Returns:
            False: so it was already.
        """
        return self._pauses.pause_flow(flow, _version(version), who=self._actor())

    def resume_flow(self, flow: str, version: int | None = None) -> bool:
        """Let its jobs be taken up again; what was paused by version is resumed so. False: it was not."""
        return self._pauses.resume_flow(flow, _version(version))

    def paused_flows(self) -> list[str]:
        """The paused flows: names, or name@version where that version alone is."""
        return self._pauses.paused_flows()


def _version(version: int | None) -> int:
    return EVERY_VERSION if version is None else version
