"""A machine that uses the ledger in any order, and compares it with the reference after each step.

Left out, since nothing in the product applies these edges yet: paused, resumed, retry_scheduled.
"""

import contextlib
import copy
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ebbtide import faults
from ebbtide.errors import CommitUnknown, EbbtideError
from ebbtide.jobs import tables
from ebbtide.jobs.claims import Claim, Claims, Request
from ebbtide.jobs.ledger import NewJob
from ebbtide.jobs.states import edge
from ebbtide.jobs.views import Views
from ebbtide.tasks import Cancelled
from tests.contract import reference as ref
from tests.contract.holding import TASKS, Holding

MAX_JOBS = 3
_numbers = itertools.count(1)
_JOBS_OF_FLOW = sa.select(tables.jobs).where(tables.jobs.c.flow == sa.bindparam("flow"))
_OF_FLOW = {
    table.name: sa.select(table)
    .join(tables.jobs, tables.jobs.c.id == table.c.job)
    .where(tables.jobs.c.flow == sa.bindparam("flow"))
    .order_by(*table.primary_key.columns)
    for table in (tables.job_tasks, tables.job_cancels, tables.job_entries, tables.job_outcomes)
}

VERBS = ("cancel", "retry", "unpark", "accept", "delete")
# What somebody would ask for who sees a job in that state.
_FITS = {
    "running": ("cancel", "cancel"),
    "parked": ("unpark", "accept"),
    "failed": ("retry", "retry"),
    "cancelled": ("retry", "retry"),
}
which = st.integers(0, 5)
sides = st.sampled_from([0, 1])
mostly = st.sampled_from([True, True, True, True, False])
seldom = st.sampled_from([False, False, False, False, False, True])
# What becomes of the answer to a commit: it comes, or is lost after the commit, or before it.
answers = st.sampled_from(["comes", "comes", "comes", "lost", "lost before"])


class LedgerMachine(RuleBasedStateMachine):
    """Two conductors, up to three jobs at once, and holders that may be stale.

    Args:
        board: the store as a test sees it. Other machines may have used it: this one has a flow of its own.
        seen: counts what was answered, and the entries of the histories, under their names.
    """

    def __init__(self, board: Any, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen
        self.board = board
        self.store = board.store
        self.ledger = board.ledger
        self.views = Views(board.store)
        self.reference = ref.Reference()
        self.number = next(_numbers)
        self.compared = 0
        self.told = ""
        self.flow = f"flow{self.number}"
        self.ids: list[str] = []
        self.accepted: set[tuple[str, int]] = set()
        self.outcomes: dict[tuple[str, int], Any] = {}
        self.holdings: list[Holding] = []
        self.sides: list[Claims] = []
        for side in (0, 1):
            self.sides.append(self._conductor(side))

    # Means.

    @property
    def now(self) -> float:
        return float(self.board.clock.now)

    def _conductor(self, side: int) -> Claims:
        owner = f"{self.number}-{side}-{next(_numbers)}"
        claims = Claims(self.store, owner, name=f"c{side}", lease_seconds=ref.LEASE_SECONDS)
        claims.register(flows=[f"{self.flow}@1"], runners=2, isolation="thread")
        self.reference.conductors[owner] = ref.Conductor(owner, self.now + ref.LEASE_SECONDS)
        return claims

    def _tick(self) -> None:
        """No two things happen at the same moment, as in life."""
        self.board.clock.advance(0.001)

    @contextlib.contextmanager
    def _answering(self, answer: str) -> Iterator[None]:
        """The answer to the next commit is lost, after it or before it."""

        def lose() -> None:
            raise CommitUnknown("the connection is gone")

        with contextlib.ExitStack() as armed:
            if answer != "comes":
                armed.enter_context(
                    faults.arm("store.committed" if answer == "lost" else "store.committing", lose)
                )
            yield

    def _told(self, call: Callable[[], Any]) -> str:
        """What the call answers, as the reference words it."""
        try:
            told = str(call())
        except (EbbtideError, Cancelled) as error:
            told = " ".join(filter(None, [type(error).__name__, getattr(error, "state", None)]))
        self.seen[told] += 1
        return told

    def _asks(self, answer: str, call: Callable[[], Any], predict: Callable[[], str]) -> None:
        """A client's change is answered as the reference answers it."""
        kept = copy.deepcopy(self.reference.jobs)
        with self._answering(answer):
            told = self._told(call)
        expected = predict()
        if answer == "lost before" and self.reference.jobs != kept:
            self.reference.jobs = kept
            expected = ref.NOT_STORED
        assert told == expected, f"answered {told!r}, not {expected!r}"

    # Clients.

    @initialize()
    def begin_with_two_jobs(self) -> None:
        for _ in range(2):
            self.post(0, 0.0, "comes")

    @rule(priority=st.sampled_from([0, 0, 5]), delay=st.sampled_from([0.0, 0.0, 20.0]), answer=answers)
    @precondition(lambda self: len(self.reference.jobs) < MAX_JOBS)
    def post(self, priority: int, delay: float, answer: str) -> None:
        self._tick()
        new = NewJob(self.flow, 1, "{}", "{}", {}, priority, delay)
        # One that is lost before the commit is done again, under the same id.
        with self._answering(answer):
            job = self.ledger.post(new, who="ann")
        self.ids.append(job)
        self.reference.post(job, priority, self.now, self.now + delay)

    @rule(
        verb=st.sampled_from(["fits", "fits", "fits", *VERBS]),
        number=which,
        answer=answers,
    )
    def ask(self, verb: str, number: int, answer: str) -> None:
        # The latest job, a second time: those that are gone answer one thing only.
        job = [*self.ids, self.ids[-1]][-1 - number % (len(self.ids) + 1)]
        if verb == "fits":
            waiting = [known for known in self.reference.jobs.values() if known.state in _FITS]
            if waiting:
                chosen = waiting[number % len(waiting)]
                job, verb = chosen.id, _FITS[chosen.state][number % 2]
            else:
                verb = "cancel"
        self._ask(job, verb, answer)

    def _ask(self, job: str, verb: str, answer: str) -> None:
        self._tick()
        reason, ledger, reference = f"reason {self.now}", self.ledger, self.reference
        calls: dict[str, tuple[Callable[[], Any], Callable[[], str]]] = {
            "cancel": (
                lambda: ledger.cancel(job, reason=reason, who="bob"),
                lambda: reference.cancel(job, reason, self.now),
            ),
            "retry": (lambda: ledger.retry(job, who="ann"), lambda: reference.retry(job, self.now)),
            "unpark": (lambda: ledger.unpark(job, who="ann"), lambda: reference.unpark(job, self.now)),
            "accept": (
                lambda: ledger.accept(job, reason="as it is", who="ann"),
                lambda: reference.accept(job),
            ),
            "delete": (
                lambda: ledger.delete(job, who="bob"),
                lambda: reference.delete(job, self.now),
            ),
        }
        self._asks(answer, *calls[verb])
        known = reference.jobs.get(job)
        if known is not None and known.requested:
            self.accepted.add((job, known.attempt))

    # Conductors.

    @rule(seconds=st.sampled_from([1.0, 20.0, 30.0]), renew=st.sampled_from([(0, 1), (0,), (1,), ()]))
    def time_passes(self, seconds: float, renew: tuple[int, ...]) -> None:
        """And some renew their leases, if they still have one: after thirty seconds they have none."""
        self.board.clock.advance(seconds)
        for side in renew:
            claims = self.sides[side]
            assert claims.renew() == self.reference.renew(claims.owner, self.now)

    def _begin_anew(self, side: int, *, released: bool) -> None:
        """A conductor is gone, and another process takes its place.

        What it held is its old id's until that lease ends, which its keeper gives up if it can.
        """
        if released:
            self.sides[side].release()
            self.reference.conductors[self.sides[side].owner].released = True
        self.sides[side] = self._conductor(side)

    @rule(side=sides, well=mostly, answer=answers)
    @precondition(lambda self: self.reference.orphans(self.now) or self.reference.best(self.now))
    def claim(self, side: int, well: bool, answer: str) -> None:
        """By a conductor that has a lease, if all is well."""
        self._tick()
        if well and not self.reference.is_live(self.sides[side].owner, self.now):
            self.sides[side] = self._conductor(side)
        claims, reference = self.sides[side], self.reference
        live = reference.is_live(claims.owner, self.now)
        orphans, best = reference.orphans(self.now), reference.best(self.now)
        worn_out = [job for job in orphans if job.is_worn_out]
        if worn_out:
            answer = "comes"  # else it would be the answer to one of several commits
        claim, told = self._claim(answer, lambda: claims.claim([f"{self.flow}@1"]))
        if answer == "lost before" or (answer == "lost" and not live):
            assert told == ref.NOBODY_KNOWS
            return
        taken = None if claim is None else claim.job_id
        if not live:
            assert taken is None
            return
        fit = [job for job in orphans if not job.is_worn_out]
        for job in worn_out:
            # Which orphan comes first is nobody's promise: one may have been parked before, or not looked at.
            if not fit or self._state(job.id) == "parked":
                job.take_over(claims.owner, interrupted=True)
        assert (taken in [job.id for job in fit or best]) if (fit or best) else taken is None
        if claim is not None:
            self._is_taken(claim, claims, orphan=bool(fit))

    def _is_taken(self, claim: Claim, claims: Claims, *, orphan: bool) -> None:
        job = self.reference.jobs[claim.job_id]
        if orphan:
            assert job.take_over(claims.owner, interrupted=True)
        else:
            job.enter("claimed", claims.owner)
        self._begin_to_hold(claim, claims, job)

    def _begin_to_hold(self, claim: Claim, claims: Claims, job: ref.Job) -> None:
        assert (claim.epoch, claim.attempt) == (job.epoch, job.attempt)
        assert (claim.cancel.reason if claim.cancel else None) == job.now.cancel
        self.holdings.append(Holding(self.store, claim, claims.owner))

    def _claim(self, answer: str, call: Callable[[], Claim | None]) -> tuple[Claim | None, str]:
        claims: list[Claim | None] = []
        with self._answering(answer):
            told = self._told(lambda: claims.append(call()))
        return (claims[0] if claims else None), told

    def _state(self, job: str) -> str:
        return str(self.board.row(job).state)

    def _reclaim(self, holding: Holding, ended: bool, lives: bool, answer: str) -> None:
        """A runner is thought dead, or was ended by its conductor; it may live on all the same, and write."""
        claims = next((side for side in self.sides if side.owner == holding.owner), None)
        if claims is None:
            return
        if not lives:
            self.holdings.remove(holding)
        live = self.reference.is_live(claims.owner, self.now)
        job = self.reference.holds(holding.claim.job_id, holding.claim.epoch)
        claim, told = self._claim(
            answer,
            lambda: claims.reclaim(
                holding.claim.job_id,
                holding.claim.epoch,
                "its runner died",
                ended_in=1.0 if ended else None,
                begun=holding.used,
            ),
        )
        if answer == "lost before":
            assert told == ref.NOBODY_KNOWS
            return
        interrupted = holding.used and not ended
        entered = live and job is not None and job.take_over(claims.owner, interrupted=interrupted)
        if answer == "lost" and not entered:
            assert told == ref.NOBODY_KNOWS
            return
        assert (claim is not None) == entered, told
        if claim is not None and job is not None:
            self._begin_to_hold(claim, claims, job)

    def _hand_back(self, holding: Holding) -> None:
        """Claimed, and not begun here."""
        self.holdings.remove(holding)
        job = self.reference.holds(holding.claim.job_id, holding.claim.epoch)
        Claims(self.store, holding.owner, name="x", lease_seconds=1).hand_back(holding.claim)
        if job is not None:
            self.reference.leave(job, "released")

    @rule(side=sides)
    @precondition(lambda self: any(self.reference.held(claims.owner) for claims in self.sides))
    def sweep(self, side: int) -> None:
        """Find what is to be forwarded, and forward it."""
        self._tick()
        claims = self.sides[side]
        assert claims.held() == self.reference.held(claims.owner)
        requests = claims.requests()
        assert {(r.job_id, r.attempt) for r in requests} == self.reference.requests(claims.owner)
        for request in requests:
            self._forward(claims, request)

    def _forward(self, claims: Claims, request: Request) -> None:
        for holding in self.holdings:
            if holding.owner == claims.owner and request.is_for(holding.claim):
                holding.event.set(request.reason, request.source)
        claims.forwarded(request, self.now)
        self.reference.forwarded(request.job_id)

    @rule(
        what=st.sampled_from(
            ["die", "hand back", "drain", "checkpoint", "begin", "reclaim", "reclaim", "reclaim", "anew"]
        ),
        number=which,
        one=st.booleans(),
        other=st.booleans(),
        answer=answers,
    )
    def meet_trouble(self, what: str, number: int, one: bool, other: bool, answer: str) -> None:
        self._tick()
        idle = [holding for holding in self.holdings if not holding.at_work and not holding.undoing]
        able = {
            "drain": idle,
            "checkpoint": [holding for holding in self.holdings if holding.at_work],
            "begin": [holding for holding in self.holdings if holding.event.requested],
            "hand back": [holding for holding in self.holdings if not holding.used],
        }.get(what, self.holdings)
        if what == "anew":
            self._begin_anew(number % 2, released=one)
        elif able:
            holding = able[number % len(able)]
            acts: dict[str, Callable[[], object]] = {
                "die": lambda: self.holdings.remove(holding),
                "hand back": lambda: self._hand_back(holding),
                "drain": lambda: self._leave(holding, "released", answer),
                "checkpoint": lambda: self._checkpoint(holding, answer),
                "begin": lambda: self._begin_task(holding, answer),
                "reclaim": lambda: self._reclaim(holding, one, other, answer),
            }
            acts[what]()

    # Holders, stale ones too.

    def _holding(self, number: int) -> Holding:
        return self.holdings[number % len(self.holdings)]

    def _writes(
        self, holding: Holding, answer: str, call: Callable[[], Any], refused: str | None = None
    ) -> ref.Job | None:
        """A holder writes; returns the job, unless nothing of it may be stored (P8).

        Args:
            refused: what it is answered before it comes to the store.
        """
        claim = holding.claim
        job = self.reference.holds(claim.job_id, claim.epoch)
        before = None if job is not None and refused is None else self._all_of(claim.job_id)
        with self._answering(answer):
            told = self._told(call)
        if before is None:
            assert told != ref.CLAIM_LOST, f"the holder of epoch {claim.epoch} has lost nothing"
            self.told = told
            return job
        assert told == (refused or ref.CLAIM_LOST), f"answered {told!r} by epoch {claim.epoch}"
        assert self._all_of(claim.job_id) == before, f"the stale holder of epoch {claim.epoch} wrote"
        if refused is None:
            self.holdings.remove(holding)
        return None

    def _learns(self, holding: Holding, job: ref.Job) -> None:
        """Every commit brings a cancel request back."""
        assert holding.event.requested or not job.requested, "a commit brought no request back"

    @rule(
        number=which,
        steps=st.lists(st.tuples(mostly, answers, seldom), min_size=1, max_size=8),
    )
    def go_on(self, number: int, steps: list[tuple[bool, str, bool]]) -> None:
        """A holder takes its next steps: begins a task, ends it, undoes, or comes to the end of the job.

        Each goes well, or not, and a cancel may come just before it. Where nothing is held a job is claimed
        first, if there is one.
        """
        if not self.holdings and (self.reference.orphans(self.now) or self.reference.best(self.now)):
            self.claim(number % 2, True, "comes")
        if not self.holdings:
            return
        holding = self._holding(number)
        for well, answer, cancelled in steps:
            if holding not in self.holdings:
                return
            self._compare()
            if cancelled:
                self._ask(holding.claim.job_id, "cancel", "comes")
            self._tick()
            self._step(holding, well, answer)

    def _step(self, holding: Holding, well: bool, answer: str) -> None:
        if holding.at_work:
            self._end_task(holding, well, answer)
        elif holding.undoing:
            self._end_undo(holding, well, answer)
        elif holding.next_undo is not None:
            self._begin_undo(holding, answer)
        elif holding.edge is not None:
            self._leave(holding, holding.edge, answer)
        else:
            self._begin_task(holding, answer)

    def _begin_task(self, holding: Holding, answer: str) -> None:
        task = (holding.next_begins or TASKS)[0]
        refused = ref.CANCELLED if holding.event.requested else None
        job = self._writes(holding, answer, lambda: holding.begin(task), refused)
        if job is None:
            return
        # P5: once a cancel is accepted nothing passes the barrier.
        assert self.told == (ref.CANCELLED if job.requested else "None")
        self._learns(holding, job)
        if not job.requested:
            known = job.now.tasks.get(task)
            job.now.tasks[task] = ref.Task(saved=known.saved if known else None)
            job.undoing = False

    def _end_task(self, holding: Holding, well: bool, answer: str) -> None:
        how = "returned" if well else "cancelled" if holding.event.requested else "raised"
        task = holding.at_work[0]
        job = self._writes(holding, answer, lambda: holding.end(task, how))
        if job is None:
            return
        self._learns(holding, job)
        job.now.tasks[task].how = how
        if how == "returned":
            job.interruptions = 0
        if how == "cancelled" and not job.now.delivered:
            job.now.delivered = True
            job.note("cancel_delivered")

    def _checkpoint(self, holding: Holding, answer: str) -> None:
        task, text = holding.at_work[0], json.dumps(self.now)
        job = self._writes(holding, answer, lambda: holding.save(task, text))
        if job is not None:
            self._learns(holding, job)
            job.now.tasks[task].saved = text

    def _begin_undo(self, holding: Holding, answer: str) -> None:
        task = str(holding.next_undo)
        given: list[Any] = []
        job = self._writes(holding, answer, lambda: given.append(holding.begin_undo(task)))
        if job is not None:
            self._learns(holding, job)
            known = job.now.tasks[task]
            known.undo_tries += 1
            job.undoing = True
            (undo,) = given
            returned = known.how == "returned"
            assert (undo.result == task, undo.interrupted) == (returned, not returned)
            assert undo.saved == (None if known.saved is None else json.loads(known.saved))

    def _end_undo(self, holding: Holding, well: bool, answer: str) -> None:
        task = holding.undoing[0]
        job = self._writes(holding, answer, lambda: holding.end_undo(task, well))
        if job is not None:
            self._learns(holding, job)
            if well:
                job.now.tasks[task].undone = True
                job.interruptions = 0

    def _leave(self, holding: Holding, name: str, answer: str) -> None:
        job = self._writes(holding, answer, lambda: holding.leave(name))
        if job is None:
            return
        left = self.reference.leave(job, name)
        assert self.told == str(left), f"{name}: answered {self.told}"
        if left:
            self.holdings.remove(holding)
        else:
            self._learns(holding, job)

    def teardown(self) -> None:
        self.seen.update(entry.name for job in self.reference.jobs.values() for entry in job.entries)

    # What is compared.

    def _all_of(self, job: str) -> dict[str, list[Any]]:
        """Every row of the job, TaskFlow's too."""
        flows = sa.select(tables.flowdetails.c.uuid).where(tables.flowdetails.c.parent_uuid == job)
        queries = {
            table.name: sa.select(table).where(table.c.job == job)
            for table in tables.metadata.sorted_tables
            if "job" in table.c
        }
        queries["jobs"] = sa.select(tables.jobs).where(tables.jobs.c.id == job)
        queries["flows"] = sa.select(tables.flowdetails).where(tables.flowdetails.c.parent_uuid == job)
        queries["atoms"] = sa.select(tables.atomdetails).where(tables.atomdetails.c.parent_uuid.in_(flows))
        with self.store.read() as connection:
            return {name: sorted(map(repr, connection.execute(query))) for name, query in queries.items()}

    def _rows(self, table: sa.Table) -> dict[str, list[Any]]:
        """The table's rows of each job of this machine."""
        found: dict[str, list[Any]] = {job: [] for job in self.ids}
        with self.store.read() as connection:
            for row in connection.execute(_OF_FLOW[table.name], {"flow": self.flow}):
                found[row.job].append(row)
        return found

    @invariant()
    def compared_with_the_reference(self) -> None:
        if self.ids:
            self._compare()

    def _compare(self) -> None:
        self._the_ledger_is_as_the_reference_says()
        self._what_people_see_is_what_the_reference_says()
        self._tasks_and_requests_are_those_of_the_reference()
        self._the_history_has_no_gap_and_replays()
        self._an_attempt_has_one_outcome_and_an_accepted_cancel_is_never_completed()

    def _the_ledger_is_as_the_reference_says(self) -> None:
        with self.store.read() as connection:
            rows = {row.id: row for row in connection.execute(_JOBS_OF_FLOW, {"flow": self.flow})}
        assert rows.keys() == self.reference.jobs.keys()
        for job in self.reference.jobs.values():
            row = rows[job.id]
            tasks = job.now.tasks.values()
            assert {
                "state": row.state,
                "owner": row.owner,
                "epoch": row.epoch,
                "attempt": row.attempt,
                "asked": row.cancel_requested_at is not None,
                "undo": row.undo,
                "undoing": bool(row.undoing),
                "begun": bool(row.begun),
                "interruptions": row.interruptions,
                "counts": (row.tasks_done, row.tasks_undone),
                "due": row.due_at,
            } == {
                "state": job.state,
                "owner": job.owner,
                "epoch": job.epoch,
                "attempt": job.attempt,
                "asked": job.requested,
                "undo": job.undo,
                "undoing": job.undoing,
                "begun": bool(job.now.tasks),
                "interruptions": job.interruptions,
                "counts": (sum(t.how == "returned" for t in tasks), sum(t.undone for t in tasks)),
                "due": job.due,
            }

    def _what_people_see_is_what_the_reference_says(self) -> None:
        """Of one job at a time: looking is not cheap."""
        jobs = list(self.reference.jobs.values())
        for job in jobs[self.compared % len(jobs) :][:1] if jobs else []:
            shown = self.views.job(job.id)
            assert (shown.state, shown.phase) == (job.state, job.phase(self.now))
            assert (shown.cancel.reason if shown.cancel else None) == job.now.cancel
        self.compared += 1

    def _tasks_and_requests_are_those_of_the_reference(self) -> None:
        tasks, cancels = self._rows(tables.job_tasks), self._rows(tables.job_cancels)
        for job in self.reference.jobs.values():
            assert {
                (row.attempt, row.task): (row.how, row.saved, row.undo_tries, row.undo_ended_at is not None)
                for row in tasks[job.id]
            } == {
                (number, name): (task.how, task.saved, task.undo_tries, task.undone)
                for number, attempt in job.attempts.items()
                for name, task in attempt.tasks.items()
            }
            assert {
                row.attempt: (row.reason, row.forwarded_at is not None, row.delivered_at is not None)
                for row in cancels[job.id]
            } == {
                number: (attempt.cancel, attempt.forwarded, attempt.delivered)
                for number, attempt in job.attempts.items()
                if attempt.cancel is not None
            }

    def _the_history_has_no_gap_and_replays(self) -> None:
        """P13, by the product's own table of edges; and each entry is the one that the reference wrote."""
        entries = self._rows(tables.job_entries)
        for job in self.reference.jobs.values():
            rows = entries[job.id]
            assert [row.number for row in rows] == list(range(1, len(rows) + 1))
            assert [
                ref.Entry(row.name, row.from_state, row.to_state, row.attempt, row.epoch) for row in rows
            ] == job.entries
            here = None
            for row in rows:
                if row.to_state is not None:
                    assert (row.from_state, row.to_state) == (here, edge(row.name).target)
                    here = row.to_state
            assert here == job.state

    def _an_attempt_has_one_outcome_and_an_accepted_cancel_is_never_completed(self) -> None:
        """P2 and P3."""
        found = self._rows(tables.job_outcomes)
        for job in self.reference.jobs.values():
            stored = {(row.attempt): row for row in found[job.id]}
            assert {number: (row.state, row.undo) for number, row in stored.items()} == {
                number: attempt.outcome
                for number, attempt in job.attempts.items()
                if attempt.outcome is not None
            }
            for number, row in stored.items():
                assert self.outcomes.setdefault((job.id, number), tuple(row)) == tuple(row)
                assert row.state == "cancelled" or (job.id, number) not in self.accepted
