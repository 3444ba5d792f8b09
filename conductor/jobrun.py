"""JobRun: what the tasks of one run are bound to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from ebbtide import faults
from ebbtide.conductor.bodies import Bodies
from ebbtide.conductor.capture import capturing
from ebbtide.conductor.enginerun import EngineRun
from ebbtide.conductor.family import Family
from ebbtide.conductor.journal import Journal
from ebbtide.conductor.redaction import Redactor
from ebbtide.errors import ClaimLost, ParentEnding
from ebbtide.jobs.posting import Wishes
from ebbtide.tasks import payload
from ebbtide.tasks.event import CancelEvent
from ebbtide.tasks.run import Begun, How, JobInfo, Undo

__all__ = ["JobRun"]

_FLUSH_SECONDS = 0.25
_STREAM_SECONDS = 0.05  # whoever reads a stream is to wait for no more


class JobRun(EngineRun):
    """Ties tasks to the journal, and flushes progress.

    Args:
        bodies: told of each body that begins and ends.
        workers: how many threads run the tasks.
        max_bytes: of a result, and of the data of a checkpoint.
        redactor: knows the secrets of this run.
        family: posts the job's children; None: it can have none.
    """

    def __init__(
        self,
        job: JobInfo,
        event: CancelEvent,
        journal: Journal,
        bodies: Bodies,
        workers: int,
        *,
        max_bytes: int = payload.MAX_BYTES,
        redactor: Redactor | None = None,
        family: Family | None = None,
    ) -> None:
        super().__init__(job, event, bodies, redactor)
        self.journal = journal
        self.family = family
        self.max_bytes = max_bytes
        self._workers = workers
        self._ended = threading.Event()
        self._hurry = threading.Event()  # chunks wait, or it has ended
        self._flusher: threading.Thread | None = None
        journal.logs.on_line = self.start_flushing

    def settle(self) -> None:
        """The engine is about to wait: commit what has ended, unless a barrier is about to do so anyway.

        Siblings that still run may be killed; what ended before must not die with them. A task
        that a worker has taken, or that a free worker or the event loop will take at once, commits at its
        barrier.
        """
        if not self.journal.unsaved_results:
            return
        with self._lock:
            waiting = self._approaching - self._in_loop
            coming = len(waiting) < len(self._approaching) or (
                waiting & self._in_pool or (waiting and len(self._in_pool) < self._workers)
            )
        if not coming:
            self.journal.commit()

    # Run.

    def encode(self, value: Any, what: str) -> str:
        text = payload.encode(value, what, max_bytes=self.max_bytes, hide=self.hide)
        reference = self.redactor.found(text)
        if reference is not None:
            # Hidden in it, the undo and the next task would be given what nobody returned.
            raise payload.PayloadError(
                f"{what} holds the secret {reference}, which is not stored: leave it out"
            )
        return text

    def begin(self, task: str) -> Begun:
        self._passing(task)
        faults.point("task.beginning", task)
        if self.family is not None:
            self.family.begins(task)
        begun = self.journal.begin(task)
        faults.point("task.begun", task)
        return begun

    def returned(self, task: str, text: str) -> None:
        faults.point("task.ended", task)
        self.journal.returned(task, text)

    def stopped(self, task: str, how: How, error: str) -> None:
        faults.point("task.ended", task)
        if how is How.CANCELLED:
            self.journal.delivered(task)
        self.journal.stopped(task, how, error)

    def save(self, task: str, text: str) -> None:
        faults.point("task.saving", task)
        self.journal.save(task, text)
        faults.point("task.saved", task)

    def post(self, task: str, flow: str, params: Mapping[str, Any] | None, wishes: Mapping[str, Any]) -> str:
        if self.family is None:
            return super().post(task, flow, params, wishes)
        self.event.check()
        new = self.family.prepare(task, flow, params, Wishes(**wishes))
        reference = self.redactor.found(new.parameters)
        if reference is not None:
            raise payload.PayloadError(
                f"the parameters of the child hold the secret {reference}, which is not stored: "
                "give the child its reference"
            )
        try:
            return self.family.post(new)
        except ParentEnding:
            request = self.family.request()
            if request is not None:
                self.event.set(*request)
                self.event.check()
            raise

    def report(self, task: str, fraction: float, message: str) -> None:
        self.journal.report(task, fraction, self.hide(message))
        self.start_flushing()

    def log(self, task: str, level: str, text: str) -> None:
        self.journal.logs.add(task, level, text)

    def open_stream(self, task: str) -> int:
        return self.journal.chunks.open(task)

    def send(self, task: str, text: str) -> bool:
        full = self.journal.chunks.add(task, text)
        self.start_flushing()
        self._hurry.set()
        return full

    def store_sent(self) -> None:
        self.journal.commit()

    def delivered(self, task: str) -> None:
        self.journal.delivered(task)

    def begin_undo(self, task: str) -> Undo | None:
        self._passing(task)
        faults.point("undo.beginning", task)
        undo = self.journal.begin_undo(task)
        if undo is not None:
            faults.point("undo.begun", task)
        return undo

    def end_undo(self, task: str, error: str | None) -> None:
        faults.point("undo.ended", task)
        self.journal.end_undo(task, error)

    # EngineRun.

    @property
    def lost(self) -> Exception | None:
        return self.journal.lost

    def goes_backwards(self) -> None:
        self.journal.goes_backwards()

    def undo_owed(self) -> list[str]:
        return self.journal.undo_owed()

    def positions(self) -> dict[str, int]:
        return self.journal.positions()

    def undo_failures(self, task: str) -> tuple[int, str | None]:
        return self.journal.undo_failures(task)

    def undo_failed(self, task: str) -> None:
        self.journal.undo_failed(task)

    def capturing(self, task: str) -> contextlib.AbstractContextManager[None]:
        return capturing(self.journal.logs, task)

    # Progress and captured lines, at most four commits a second; chunks, at most twenty.

    def start_flushing(self) -> None:
        """Start the thread that stores these while the run lasts. Further calls do nothing."""
        if self._flusher is not None:
            return
        with self._lock:
            if self._flusher is None and not self._ended.is_set():
                flusher = threading.Thread(target=self._flush, name="ebbtide-flush", daemon=True)
                # The system may have none to give: the next commit stores it, and the next call tries again.
                with contextlib.suppress(RuntimeError):
                    flusher.start()
                    self._flusher = flusher

    def end(self) -> None:
        """The run is over: stop flushing. Returns when the last flush is done."""
        self._ended.set()
        self._hurry.set()
        with self._lock:
            flusher = self._flusher
        if flusher is not None:
            flusher.join()

    def _flush(self) -> None:
        while self.journal.lost is None:
            hurry = self._hurry.wait(_FLUSH_SECONDS)
            self._hurry.clear()  # before the look at what it tells of: set once more, it is seen next time
            if self._ended.wait(_STREAM_SECONDS if hurry else 0.0):
                return
            with contextlib.suppress(ClaimLost):  # seen by whoever comes to a barrier, and by the bodies
                self.journal.commit()
