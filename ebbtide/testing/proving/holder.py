"""A holder: the process that claims a job as a conductor does, and runs it as a runner does.

It is forked for one run, tells of each fault point that the run comes to, and does there what its plan says.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebbtide import faults
from ebbtide.conductor.capture import install
from ebbtide.conductor.execution import Execution
from ebbtide.conductor.options import RunOptions
from ebbtide.conductor.undoing import UndoPolicy
from ebbtide.errors import ClaimLost, TooLate
from ebbtide.flows import FlowDefinition, Registry
from ebbtide.jobs.claim import Claim
from ebbtide.jobs.claims import Claims, new_owner_id
from ebbtide.jobs.interrupted import why_ended
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.store import Store
from ebbtide.jobs.views import Views
from ebbtide.tasks import payload
from ebbtide.testing.proving.effects import CANCEL, TOO_LATE, Effect, EffectLog
from ebbtide.testing.proving.plans import Act, Address, Deed, Run
from ebbtide.trees import become_subreaper, end_below

__all__ = ["Order", "Subject", "hold", "hold_job", "post"]

REASON = "a proof"
SOURCE = "proof"
_LEASE_SECONDS = 3600.0
_PATIENCE_SECONDS = 10.0
_LOG_LINES = 100
# Of the conductor's sweep, which finds what no signal has told, only quicker.
_SWEEP_SECONDS = 0.2

Tell = Callable[..., None]


@dataclass(frozen=True)
class Subject:
    """What is proven: a flow with its parameters, as a job has them, how many tasks run at once, and how an
    undo is tried that fails or hangs.
    """

    registry: Registry
    definition: FlowDefinition
    params: dict[str, Any]
    threads: int
    undo: UndoPolicy


@dataclass(frozen=True)
class Order:
    """What one holder is told.

    Attributes:
        threads: see `Plan`.
        gone: the owner id of the holder before, which is proven dead, or taken for dead.
        hung: the undos for which that one was ended: its conductor lives, and has another runner go on.
        passed: the points that it had come to by then, which are counted on from there.
        rest_seconds: for how long it waits for the bodies at work, where it is to sleep, before it does not.
    """

    job: str
    log: Path
    run: Run
    threads: int = 0
    gone: str | None = None
    hung: Mapping[str, str] = field(default_factory=dict)
    passed: Sequence[Address] = ()
    rest_seconds: float = 15.0


class _Line:
    """Tells the prover, a JSON value a line: owner, points, deeds, answers, and the edge at the end."""

    def __init__(self, writer: int) -> None:
        self._writer = writer
        self._lock = threading.Lock()

    def tell(self, **facts: Any) -> None:
        data = (json.dumps(facts) + "\n").encode()
        with self._lock:
            while data:
                data = data[os.write(self._writer, data) :]


def post(subject: Subject, store: Store) -> str:
    """Put a job on the board; returns its id."""
    definition = subject.definition
    text = payload.encode(subject.params, "the parameters")
    new = NewJob(definition.name, definition.version, text, labels_text="{}", labels={})
    return Ledger(store).post(new, who=SOURCE)


def hold(subject: Subject, store: Store, order: Order, writer: int, bed: int) -> None:
    """Be the holder of one run, in a process that was forked for it; see `Holder`."""
    warnings.simplefilter("ignore")  # those of the program that proves are none of the user's tasks
    become_subreaper()
    install(outputs=True)
    store.move_in()
    log = EffectLog(order.log)
    log.witness()
    hold_job(subject, store, order, log, _Line(writer).tell, lambda: os.read(bed, 1))
    end_below()


def hold_job(
    subject: Subject, store: Store, order: Order, log: EffectLog, tell: Tell, sleep: Callable[[], object]
) -> None:
    """Claim the job and run it to its next edge. Returns once that is stored and its threads have ended."""
    canceller = _Canceller(store, order.job, log, tell)
    if order.run.cancel_first:
        canceller.cancel()
    if order.gone is not None and not order.hung:
        # What the keeper does once the runners of a dead conductor are gone.
        Claims(store, order.gone, name="gone", lease_seconds=_LEASE_SECONDS).release()
    watch = _Watch(
        order.run.acts, canceller, tell, sleep, passed=order.passed, rest_seconds=order.rest_seconds
    )
    tell(edge=_run(subject, store, order, watch, tell))


def _run(subject: Subject, store: Store, order: Order, watch: _Watch, tell: Tell) -> str | None:
    """The name of the edge; None: there was nothing to claim."""
    owner = order.gone if order.gone is not None and order.hung else new_owner_id()
    claims = Claims(store, owner, name="proof", lease_seconds=_LEASE_SECONDS)
    tell(owner=owner)
    if not order.hung:
        claims.register(flows=[subject.definition.key], runners=1, isolation="process")
    options = RunOptions(
        database=store.url,
        flow_modules=(),
        owner=claims.owner,
        task_threads=order.threads or subject.threads,
        patience_seconds=_PATIENCE_SECONDS,
        log_lines=_LOG_LINES,
        revert_retries=subject.undo.retries,
        revert_retry_seconds=subject.undo.retry_seconds,
        revert_timeout_seconds=subject.undo.timeout_seconds,
    )
    with faults.watch(watch.come):
        claim = _claim(claims, subject, order)
        if claim is None:
            claims.release()
            return None
        execution = Execution(
            store,
            subject.registry,
            claim,
            options,
            end_leftovers=end_below,
            tell_undo=lambda task, seconds: tell(undoing=[task, seconds]),
        )
        watch.begin(execution)
        edge = execution.run()
        _join_workers()
    claims.release()
    return edge


def _claim(claims: Claims, subject: Subject, order: Order) -> Claim | None:
    """As a conductor takes a job up; or once more, where it had its runner ended."""
    if not order.hung:
        return claims.claim([subject.definition.key])
    epoch = claims.held().get(order.job)
    if epoch is None:
        return None  # its end was stored before it was ended
    return claims.reclaim(order.job, epoch, why_ended(order.hung), ended_in=0.0, hung=order.hung)


def _join_workers() -> None:
    """A run that has lost its job does not wait for a worker, which may sleep."""
    for thread in threading.enumerate():
        if thread.name.startswith("ebbtide-"):
            thread.join()


def _of_loop() -> bool:
    """Whether the calling thread runs coroutines, or calls for them what may block."""
    return threading.current_thread().name.startswith(("ebbtide-loop", "ebbtide-barrier"))


class _Canceller:
    """Cancels the job as somebody does who watches it."""

    def __init__(self, store: Store, job: str, log: EffectLog, tell: Tell) -> None:
        self._ledger = Ledger(store)
        self._views = Views(store)
        self._job = job
        self._log = log
        self._tell = tell

    def cancel(self) -> bool:
        """Whether a request stands now; False: it came too late."""
        self._tell(asked=True)
        try:
            answer = self._ledger.cancel(self._job, reason=REASON, who=SOURCE, source=SOURCE)
        except TooLate:
            answer = TOO_LATE
        # Times tell no order: a begin and a request may each have waited for the other's lock.
        passed = [(record.task, record.round) for record in self._views.tasks(self._job)]
        self._log.write(Effect(CANCEL, job=self._job, value=answer, passed=passed))
        self._tell(answer=answer)
        return answer != TOO_LATE


class _Watch:
    """Tells of each point that the run comes to, and does there what the plan says."""

    def __init__(
        self,
        acts: tuple[Act, ...],
        canceller: _Canceller,
        tell: Tell,
        sleep: Callable[[], object],
        *,
        passed: Sequence[Address],
        rest_seconds: float,
    ) -> None:
        self._acts = {act.address: act.deed for act in acts}
        self._canceller = canceller
        self._tell = tell
        self._sleep = sleep
        self._rest_seconds = rest_seconds
        self._lock = threading.Lock()  # guards the counts, and keeps what is told in their order
        # By task, from the barrier of a body to its end: its thread; None: it is a coroutine in the loop.
        self._in_bodies: dict[str, int | None] = {}
        self._changed = threading.Condition(self._lock)  # who is in a body, or one of the next two
        self._tired = False  # somebody sleeps, or will as soon as no body is at work: none begins meanwhile
        self._woken = False  # he has slept: somebody else has the job
        self._times = Counter((point.name, point.task) for point in passed)
        self._ours = threading.local()
        self._execution: Execution | None = None
        self._requested = False

    def begin(self, execution: Execution) -> None:
        self._execution = execution
        if self._requested:
            execution.event.set(REASON, SOURCE)

    def come(self, name: str, task: str | None) -> None:
        if getattr(self._ours, "busy", False):
            return  # the commits of a deed are no points of the run
        with self._lock:
            place = (name, task or "")
            self._times[place] += 1
            address = Address(*place, self._times[place])
            self._tell(point=[address.name, address.task, address.number])
            self._note_body(*place)
        deed = self._acts.get(address)
        if deed is Deed.SLEEP:
            self._go_to_sleep(address.task)
        elif deed is not None:
            self._do(deed)

    def _do(self, deed: Deed) -> None:
        self._tell(deed=deed)
        if deed is Deed.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            self._ours.busy = True
            try:
                requested = self._canceller.cancel()
            finally:
                self._ours.busy = False
            if requested:
                self._forward(_SWEEP_SECONDS if deed is Deed.CANCEL_UNHEARD else 0.0)

    def _note_body(self, name: str, task: str) -> None:
        """One that may not begin is one whose barrier took until somebody else had the job."""
        if name in ("task.begun", "undo.begun"):
            self._changed.wait_for(lambda: self._woken or not self._tired)
            if self._woken:
                assert self._execution is not None
                claim = self._execution.claim
                raise ClaimLost(claim.job_id, claim.epoch)
            # A coroutine begins and ends in two threads: the first of them waits for the store.
            self._in_bodies[task] = None if _of_loop() else threading.get_ident()
        elif name in ("task.ended", "undo.ended"):
            self._in_bodies.pop(task, None)
            self._changed.notify_all()

    def _go_to_sleep(self, task: str) -> None:
        """Let somebody else take the job meanwhile, but no body run beside his.

        Nothing happens in a body, or where one would be held up: a coroutine whose loop this is, or that
        waits for this very commit. Nor where a body does not end in time: it may wait for one that may not
        begin, and both go on then.
        """
        with self._lock:
            if task in self._in_bodies or self._holds_up_a_body():
                return
            self._tired = True
            if not self._changed.wait_for(lambda: not self._in_bodies, self._rest_seconds):
                self._tired = False
                self._changed.notify_all()
                return
        self._tell(deed=Deed.SLEEP)
        self._sleep()
        with self._lock:
            self._woken = True
            self._changed.notify_all()

    def _holds_up_a_body(self) -> bool:
        at_work = self._in_bodies.values()
        return threading.get_ident() in at_work or (_of_loop() and None in at_work)

    def _forward(self, seconds: float) -> None:
        """Hand the request to the run: at once, as a signal does, or later, as a sweep does."""
        self._requested = True
        execution = self._execution
        if execution is None:
            return  # it is told when it begins
        if not seconds:
            execution.event.set(REASON, SOURCE)
            return
        sweep = threading.Timer(seconds, execution.event.set, (REASON, SOURCE))
        sweep.daemon = True
        sweep.start()
