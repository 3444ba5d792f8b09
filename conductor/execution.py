"""One run of one job, from its claim to its outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import tenacity
from taskflow import exceptions as taskflow_exceptions

from ebbtide.conductor.bodies import Bodies
from ebbtide.conductor.engine import CutOff, Engine, Rest
from ebbtide.conductor.family import Family
from ebbtide.conductor.jobrun import JobRun
from ebbtide.conductor.journal import Journal
from ebbtide.conductor.options import RunOptions
from ebbtide.conductor.outcome import Outcome
from ebbtide.conductor.redaction import Redactor
from ebbtide.conductor.secrets import Resolved, resolve
from ebbtide.conductor.stored import StoredRun, Unreadable, load_run
from ebbtide.conductor.undoing import UndoPolicy
from ebbtide.conductor.verdict import Verdict
from ebbtide.errors import ClaimLost, EdgeRefused, FlowNotFound, StoreUnavailable, UsageError
from ebbtide.flows import FlowDefinition, Registry
from ebbtide.jobs import clock
from ebbtide.jobs.cancels import is_limit
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.interrupted import UNBUILT
from ebbtide.jobs.parking import park
from ebbtide.jobs.states import Ending, JobState, settle
from ebbtide.jobs.store import Store
from ebbtide.tasks import payload
from ebbtide.tasks.event import CancelEvent
from ebbtide.tasks.run import JobInfo
from ebbtide.tasks.wrapping import describe

__all__ = ["LOST", "Execution"]

LOG = logging.getLogger(__name__)

LOST = "lost"

_T = TypeVar("_T")

_ENDINGS = {
    Rest.FINISHED: Ending.FINISHED,
    Rest.UNDONE: Ending.UNDONE,
    Rest.STUCK: Ending.STUCK,
    Rest.HELD: Ending.HELD,
}


class Execution:
    """Runs a claimed job to the next edge: its outcome, its release, or its parking.

    `run` blocks in one thread; `event`, `bodies` and `suspend` may be used from others.

    Args:
        end_leftovers: ends whatever the tasks have started and left; called with all tasks at rest,
            before a cancel's undo begins.
        tell, tell_undo: see `Bodies`.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        claim: Claim,
        options: RunOptions,
        *,
        end_leftovers: Callable[[], None] = lambda: None,
        tell: Callable[[float | None], None] = lambda grace: None,
        tell_undo: Callable[[str, float | None], None] = lambda task, seconds: None,
    ) -> None:
        self._store = store
        self._registry = registry
        self.claim = claim
        self._options = options
        self._end_leftovers = end_leftovers
        self._engine: Engine | None = None
        self._suspended = False
        self._childless = False  # surely, and for as long as this run lasts
        self._overruled = False  # the limit that stopped it: the job was cancelled since
        self._pausing = False
        self.redactor = Redactor()  # knows the job's secrets once the run has found them
        self.event = CancelEvent()
        if claim.cancel is not None:
            self.event.set(claim.cancel.reason, claim.cancel.source)
        self.bodies = Bodies(self.event, options.grace_seconds, tell, tell_undo)

    def suspend(self) -> None:
        """Stop between tasks, or between undos, and hand the job back; from any thread."""
        self._suspended = True
        self._stop()

    def pause(self) -> None:
        """Stop likewise, and leave the job paused if that is still wished then; from any thread."""
        self._pausing = True
        self._stop()

    def _stop(self) -> None:
        if self._engine is not None:
            self._engine.suspend_requested.set()

    def give_up(self) -> None:
        """End at the next checkpoint, undoing and storing nothing: another holder may have the job."""
        self.suspend()
        if self._engine is not None:
            self._engine.give_up()

    def cut_off(self) -> None:
        """End now, where that is possible: coroutines are left at their awaits, and nothing of this run is
        stored any more, as if its runner had died. Where none is at work it is `suspend`.
        """
        self.suspend()
        if self._engine is not None:
            self._engine.cut_off()

    def run(self) -> str:
        """Run the job; returns the name of the edge it left by.

        `LOST` when another holder has the job, or when the store stayed away: nothing of this run
        goes on then, and what is stored tells the next one where to go on.
        """
        try:
            try:
                stored = self._patiently(load_run, self._store, self.claim)
                definition = self._registry.get(self.claim.flow, self.claim.version)
                flow, secrets = self._made(definition, stored)
            except (Unreadable, UsageError, FlowNotFound) as error:
                return self._park(str(error))
            self.redactor = secrets.redactor
            with self.redactor.active():
                return self._run(stored, definition, flow, secrets)
        except (ClaimLost, StoreUnavailable) as error:
            return self._lost(str(error), error.__cause__)

    def _made(self, definition: FlowDefinition, stored: StoredRun) -> tuple[Any, Resolved]:
        """The flow and the secrets of the job. The user's code, or a disk, may hang in it."""
        with self.bodies.making(UNBUILT, self._options.revert_timeout_seconds):
            flow, values = definition.build(stored.parameters)
            return flow, resolve(values, allowed=self._options.secret_references)

    def _lost(self, told: str, why: BaseException | None) -> str:
        # A lost claim, or a fault of ours: whichever, it must not pass in silence.
        level = logging.INFO if isinstance(why, CutOff) else logging.WARNING
        LOG.log(level, "job.lost %s epoch=%d: %s", self.claim.job_id, self.claim.epoch, told)
        return LOST

    def _patiently(self, call: Callable[..., _T], *args: Any) -> _T:
        """The call, repeated while the store is away, for as long as this run may go on without it."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreUnavailable),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            stop=tenacity.stop_after_delay(self._options.patience_seconds),
            reraise=True,
        )
        return attempts(call, *args)

    def _run(self, stored: StoredRun, definition: FlowDefinition, flow: Any, secrets: Resolved) -> str:
        claim = self.claim
        journal = Journal(
            self._store,
            claim,
            self.event,
            stored,
            patience_seconds=self._options.patience_seconds,
            log_lines=self._options.log_lines,
            redactor=self.redactor,
        )
        family = Family(self._store, self._registry, claim, self._options.owner, self._options.for_children)
        info = JobInfo(claim.job_id, claim.flow, claim.attempt, claim.epoch, stored.labels)
        run = JobRun(
            info,
            self.event,
            journal,
            self.bodies,
            self._options.task_threads,
            max_bytes=self._options.max_result_bytes,
            redactor=self.redactor,
            family=family,
        )
        options = self._options
        tries = UndoPolicy(
            options.revert_retries, options.revert_retry_seconds, options.revert_timeout_seconds
        )
        engine = Engine(flow, stored.flow, run, options.task_threads, tries)
        try:
            engine.compile()
            if stored.flow_stored and stored.atom_names != engine.atom_names():
                return self._park(f"flow {claim.key} has another shape now than when this attempt began")
            # Transient: TaskFlow would store parameters once more, in clear, beside its results.
            engine.storage.inject(secrets.values, transient=True)
            engine.end_leftovers = self._end_leftovers
            verdict = Verdict(stored.policies, stored.retries)
            engine.is_to_hold = verdict.holds
            engine.before_undo = partial(self._stop_children, engine, journal, family)
            self._engine = engine
            if self._suspended or self._pausing:
                engine.suspend_requested.set()
            # A flow that was reverted and not yet settled when its runner died: TaskFlow's prepare()
            # would reset it and run it all again.
            reverted = stored.flow_stored and engine.reverted
            rest = Rest.UNDONE if reverted else self._drive(engine, secrets.problem, stored)
            return self._settle(engine, run, definition, rest, verdict, stored.rewind_to)
        finally:
            run.end()
            engine.close()

    def _drive(self, engine: Engine, problem: str | None, stored: StoredRun) -> Rest:
        undo_failed = stored.undo_failed
        if stored.rewind_to is not None and not self.event.requested and not engine.turned:
            return engine.rewind(stored.rewind_to)
        if problem is None or undo_failed or self.event.requested:
            return engine.drive(backwards=undo_failed)
        # Nothing more may begin without the secret. What began before is undone, as far as that needs none.
        return engine.undo_all(engine.error or problem)

    def _stop_children(self, engine: Engine, journal: Journal, family: Family) -> None:
        """Leaves first: no undo begins before the children have ended.

        Until then the run is suspended, and the job handed back, which nobody claims before: its children may
        need the very runner that it has.
        """
        if self._childless or engine.suspend_requested.is_set():
            return
        try:
            children = self._patiently(family.stop)
        except (ClaimLost, StoreUnavailable) as error:
            journal.give_up(error)
            engine.suspend_requested.set()
            return
        journal.goes_backwards(undoing=True)
        self._childless = not children
        if children:
            LOG.info("job.waits %s for %d children", self.claim.job_id, len(children))
            self._suspended = True  # also where a cancel is the reason: it goes back later
            engine.suspend_requested.set()

    def _settle(
        self,
        engine: Engine,
        run: JobRun,
        definition: FlowDefinition,
        rest: Rest,
        verdict: Verdict,
        savepoint: str | None,
    ) -> str:
        """Apply the edge by which the run ends; turn round when a cancel request came first."""
        result: str | None = None
        while True:
            if rest is Rest.LOST:
                return self._lost(describe(run.lost, run.hide) if run.lost else "stopped", run.lost)
            if rest in (Rest.SUSPENDED, Rest.REWOUND):
                name = self._rest_between(engine, run, savepoint if rest is Rest.REWOUND else None)
                if name is not None:
                    return name
                engine.suspend_requested.clear()
                rest = engine.drive()
                continue
            if rest is Rest.FINISHED and result is None and not self.event.requested:
                try:
                    result = run.encode(_result(engine, definition), "the result of the job")
                except payload.PayloadError as error:
                    rest = engine.undo_all(str(error))
                    continue
            limit = self._limit()
            name = settle(
                _ENDINGS[rest], cancel_requested=self.event.requested, limit_passed=limit is not None
            )
            if name is not None:
                outcome = self._outcome(name, engine, run, result, held=rest is Rest.HELD)
                outcome = verdict.judged(outcome, engine.failure_names)
                if run.journal.finish(outcome.write):  # False: a cancel request came first
                    return outcome.edge
                self._overruled |= limit is not None
            if rest is Rest.FINISHED and not self.event.requested:
                # It is to be rewound: finished work is undone, by the run that comes next.
                rest = Rest.SUSPENDED
            elif rest in (Rest.FINISHED, Rest.HELD):
                rest = engine.drive()

    def _rest_between(self, engine: Engine, run: JobRun, savepoint: str | None) -> str | None:
        """Leave a run that has stopped between tasks; None: a cancel came first, and it goes on backwards."""
        claim, owner = self.claim, self._options.owner
        if savepoint is not None:
            rewound = Outcome.rewound(claim, owner, savepoint, run.journal.summary())
            if run.journal.finish(rewound.write):
                return "paused"
        elif self._pausing and run.journal.finish(Outcome.paused(claim, owner).write):
            return "paused"
        if self.event.requested and not self._suspended:
            return None
        released = self._outcome("released", engine, run, None)
        return "released" if run.journal.finish(released.write) else None

    def _outcome(
        self, name: str, engine: Engine, run: JobRun, result: str | None, *, held: bool = False
    ) -> Outcome:
        return Outcome.of(
            name,
            self.claim,
            self._options.owner,
            run.journal.summary(),
            error=engine.error,
            stopped_by=describe(engine.raised, run.hide) if engine.raised else None,
            result=result,
            limit=self._limit(),
            held=held,
        )

    def _limit(self) -> str | None:
        """Which limit was passed, if that is why the run was stopped and nobody has cancelled it since."""
        passed = self.event.requested and is_limit(self.event.source) and not self._overruled
        return self.event.reason if passed else None

    def _park(self, reason: str) -> str:
        """Park a job that cannot be run as it is stored."""
        try:
            self._patiently(self._write_unreadable, reason)
        except EdgeRefused as error:
            if error.state != JobState.PARKED:
                raise
            # It was stored by the first try, whose answer was lost.
        return "parked"

    def _write_unreadable(self, reason: str) -> None:
        claim = self.claim
        with self._store.write() as connection:
            park(
                connection,
                claim.job_id,
                epoch=claim.epoch,
                at=clock.wall(),
                reason=reason,
                task=None,
                actor=self._options.owner,
            )


def _result(engine: Engine, definition: FlowDefinition) -> Any:
    """The job's result: what `returns` names, else the outputs that nobody consumed."""
    if definition.returns is not None:
        try:
            return engine.storage.fetch(definition.returns)
        except taskflow_exceptions.NotFound as error:
            raise payload.PayloadError(
                f"the result of the job is missing: {definition.returns} was not provided"
            ) from error
    value = {}
    for name in engine.outputs():
        try:
            value[name] = engine.storage.fetch(name)
        except taskflow_exceptions.NotFound:
            continue  # its task was skipped by a decider
    return value
