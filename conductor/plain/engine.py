"""CancelableEngine: the engine plug-in `cancelable`, for stock posters and conductors of TaskFlow."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator
from typing import Any

from taskflow import exceptions, states
from taskflow.flow import Flow
from taskflow.persistence import models
from taskflow.storage import Storage
from taskflow.types import failure

from ebbtide.conductor.plain.executor import PlainExecutor
from ebbtide.conductor.plain.run import PlainRun
from ebbtide.conductor.turning import Rest, TurningEngine
from ebbtide.errors import ConfigError
from ebbtide.jobs.plain.desk import desk_of
from ebbtide.jobs.requestfiles import FiledRequest
from ebbtide.tasks.event import CancelEvent, Cancelled
from ebbtide.tasks.run import JobInfo
from ebbtide.wording import one_line

__all__ = ["CancelableEngine", "tell_jobs"]

_RECORD = "ebbtide_cancel"  # in the flow's metadata: who asked for what, and what became of it


class CancelableEngine(TurningEngine):
    """A TaskFlow engine whose flows can be cancelled while they run, and are undone then, newest first.

        conductor = taskflow.conductors.backends.fetch(
            "nonblocking", name, board, persistence=backend,
            engine="cancelable", engine_options={"requests": "zookeeper://zk1:2181/ebbtide"})
        tell_jobs(conductor)

    A cancel request is looked for by the flow's uuid, and by the job's where `tell_jobs` was called. Once it
    is accepted it is stored with the flow, so that it outlives this process; then the tasks' cancel event is
    set, no further task begins, and what began is undone. Checkpoints of a `CancelableTask` deliver it;
    any other task of TaskFlow's runs to its end. The flow ends REVERTED, and `run` raises `Cancelled`:
    a stock conductor logs that as a failure and consumes the job. A request that is accepted before the
    flow's end is decided wins: finished work is undone.

    What this engine does not promise, and Ebbtide's own conductor does:

    - No fence. An owner that has lost its claim may go on beside the new one, as with any stock engine.
    - No record of what began. After a crash a task that was scheduled and had not begun is undone as well,
      with `INTERRUPTED` for its result.
    - No grace period. A task that is deaf to its event delays the cancel until it ends.
    - No incident. After an undo that failed the flow is a FAILURE, its predecessors are not undone, and a
      stock conductor consumes the job all the same.
    - No ledger. A request for what has ended, or never was, is answered by nobody.
    - TaskFlow's own persistence, and what it costs: four transactions for each task.

    Options:
        requests: URL of the cancel requests, see `ebbtide.jobs.plain.open_requests`. Default: ``file:``.
        max_workers: how many tasks run side by side. Default: 1, as with the engine `serial`.

    Raises:
        ConfigError: an option cannot be used.
    """

    _run: PlainRun

    def __init__(
        self, flow: Flow, flow_detail: models.FlowDetail, backend: Any, options: dict[str, Any]
    ) -> None:
        if options.get("never_resolve"):
            raise ConfigError("engine cancelable undoes what failed: it cannot be told to never_resolve")
        self.job_id: str | None = None  # set by `tell_jobs`, before the engine is compiled
        self._desk = desk_of(str(options.get("requests", "file:")))
        self._asking = threading.Lock()  # over whether a request may still be accepted
        self._open = True
        run = PlainRun(JobInfo(id=flow_detail.uuid, flow=flow.name), CancelEvent())
        given = options | {"max_workers": _workers(options.get("max_workers", 1))}
        _mend_store(flow_detail)
        super().__init__(flow, flow_detail, backend, given, run)

    @classmethod
    def _fetch_task_executor(cls, options: dict[str, Any]) -> PlainExecutor:
        return PlainExecutor(
            options["max_workers"], options["run"], options["suspend_requested"], options["end_leftovers"]
        )

    def compile(self) -> None:
        """As promised by TaskFlow; takes up what an earlier owner has left, a cancel request included."""
        if self._compiled:
            return
        super().compile()
        self._run.load(self._flow_detail, self.storage, set(self.task_names()))
        record = self._record
        if record is not None and not record["undone"]:
            self._run.event.set(record["reason"])

    def reset(self) -> None:
        """As promised by TaskFlow, but what was cancelled in this very job is not run once more.

        Its owner may have died between the end of the undo and the job's. A flow that is posted again, in
        another job, begins anew.
        """
        record = self._record
        if record is not None:
            same_job = self.job_id is not None and record["job"] == self.job_id
            if same_job or not record["undone"]:
                return
            self.storage.update_flow_metadata({_RECORD: None})
        super().reset()

    def suspend(self) -> None:
        """Stop between tasks, or between undos; may be called from any thread."""
        self.suspend_requested.set()

    def run_iter(self, timeout: float | None = None) -> Generator[str, Any, None]:
        """As promised by TaskFlow. `timeout` has no meaning here: nothing but tasks is waited for.

        Raises:
            Cancelled: the flow was cancelled, and is undone.
            WrappedFailure, or what a task has raised: as with any engine.
        """
        self.compile()
        self.prepare()
        if self.reverted:
            self._end_cancelled()
        with self._desk.listening(self._uuids, self._accept):
            rest = yield from self._to_rest()
        if rest is Rest.UNDONE and self._run.event.requested:
            self._end_cancelled()
        if rest not in (Rest.FINISHED, Rest.SUSPENDED):
            self._raise_failure()

    def _to_rest(self) -> Generator[str, Any, Rest]:
        while True:
            course = self._course()
            while True:
                try:
                    state = next(course)
                except StopIteration as end:
                    rest: Rest = end.value
                    break
                if (yield state):
                    self.suspend()
            with self._asking:
                # A request that was accepted before this line turns even a finished flow round.
                if rest is not Rest.FINISHED or not self._run.event.requested:
                    self._open = False
                    return rest

    @property
    def _uuids(self) -> list[str]:
        return [self._flow_detail.uuid, *([] if self.job_id is None else [self.job_id])]

    @property
    def _record(self) -> dict[str, Any] | None:
        record = self.storage.flow_meta.get(_RECORD)
        return record if isinstance(record, dict) else None

    def _accept(self, request: FiledRequest) -> str | None:
        """Store the request with the flow, and only then set the event: called by the desk."""
        with self._asking:
            if self._run.event.requested:
                return "already requested"
            if not self._open:
                state = self.storage.get_flow_state()
                # What was suspended, or left by an owner that lost its store, goes on elsewhere.
                return f"too late: {state.lower()}" if state in (states.SUCCESS, states.REVERTED) else None
            record = {
                "reason": request.reason,
                "who": request.who,
                "requested_at": request.requested_at,
                "accepted_at": time.time(),
                "job": self.job_id,
                "undone": False,
            }
            self.storage.update_flow_metadata({_RECORD: record})
            self._run.event.set(request.reason)
            return "accepted"

    def _end_cancelled(self) -> None:
        record = self._record or {}
        self.storage.update_flow_metadata({_RECORD: record | {"undone": True}})
        raise Cancelled(record.get("reason", ""))

    def _raise_failure(self) -> None:
        failure.Failure.reraise_if_any(self.storage.get_revert_failures().values())
        cause = self.cause or self.raised
        if cause is not None:
            raise cause
        raise RuntimeError(f"flow {self.storage.flow_name} came to no end: {self.error}")

    def _is_lost(self) -> bool:
        # Not stored: nothing is turned round on that. A stock conductor abandons the job then.
        return isinstance(self.raised, exceptions.StorageFailure) and not self.reverted


def tell_jobs(conductor: Any) -> None:
    """Let the engines of a stock conductor know their jobs, so that requests are found by job uuid too."""
    conductor.notifier.register("compilation_start", _tell_job)


def _tell_job(event: str, details: dict[str, Any]) -> None:
    engine = details["engine"]
    if isinstance(engine, CancelableEngine):
        engine.job_id = details["job"].uuid


def _mend_store(flow_detail: models.FlowDetail) -> None:
    """TaskFlow puts the store of a job down in two commits: an atom of its own, and then its results.

    Of an owner that died between these its storage cannot be opened (6.5.0, `Storage.__init__`), and a stock
    conductor throws such a job away. What belongs there is injected anew by whoever loads the flow.
    """
    for atom in flow_detail:
        if atom.name == Storage.injector_name and atom.results is None:
            atom.results, atom.state = {}, states.SUCCESS


def _workers(value: object) -> int:
    try:
        workers = int(str(value))
    except ValueError:
        workers = 0
    if not 0 < workers < math.inf:
        told = one_line(value, 40)
        raise ConfigError(f"max_workers of engine cancelable should be a whole number from 1, not {told}")
    return workers
