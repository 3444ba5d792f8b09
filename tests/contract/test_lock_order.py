"""Who changes several jobs of one family locks them from its root downwards: nobody waits in a circle.

A circle would be found by the server a second later, and the one that is rolled back begins again; five times
at most. Each contender has a store of its own, as each process has.
"""

import contextlib
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy as sa

from ebbtide.errors import EdgeRefused, JobNotFound, ParentEnding, TooLate
from ebbtide.jobs import Selection
from ebbtide.jobs.cancelling import Cancel
from ebbtide.jobs.deletion import Delete
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.many import Many
from ebbtide.jobs.pausing import Pause, Resume
from ebbtide.jobs.retention import Retention
from ebbtide.jobs.retrying import Retry
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store
from ebbtide.jobs.verbs import Verb
from ebbtide.testing import wait_until

pytestmark = pytest.mark.postgresql_only("SQLite has one writer at a time")

REFUSALS = (EdgeRefused, JobNotFound, ParentEnding, TooLate)
VERBS: dict[str, Callable[[], Verb]] = {
    "cancel": lambda: Cancel("bob", reason="x"),
    "retry": lambda: Retry("bob"),
    "delete": lambda: Delete("bob"),
    "pause": lambda: Pause("bob"),
    "resume": lambda: Resume("bob"),
}


class Contenders:
    """Stores of one database, and the circles in which the server found them waiting."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.circles: list[str] = []

    def store(self) -> Store:
        store = Store(self._url)
        sa.event.listen(store.engine, "handle_error", self._note)
        return store

    def _note(self, context: Any) -> None:
        if isinstance(context.original_exception, psycopg2.errors.DeadlockDetected):
            self.circles.append(f"{context.statement}: {context.original_exception}")


@pytest.fixture
def contenders(made) -> Iterator[Contenders]:
    yield (found := Contenders(made))
    assert found.circles == []


@pytest.fixture
def waits(made, request) -> Callable[[], bool]:
    """Whether anybody waits for a lock."""
    server = request.getfixturevalue("postgresql")
    return lambda: server.query(made, "SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)]


def by_id(board, *states: JobState) -> list[str]:
    """A job of the first state, its child of the second, and so on, the last one with the least id."""
    ids = sorted((str(uuid.uuid4()) for _ in states), reverse=True)
    line: list[str] = []
    for job_id, state in zip(ids, states, strict=True):
        ended = {"ended_at": board.clock.now - 1000.0} if state is JobState.FAILED else {}
        line.append(board.put(state, id=job_id, parent=line[-1] if line else None, **ended))
    return line


def one(verb: str, job: str) -> Callable[[Store], Any]:
    ledger: dict[str, Callable[[Ledger], Any]] = {
        "cancel": lambda ledger: ledger.cancel(job, reason="x", who="bob"),
        "retry": lambda ledger: ledger.retry(job, who="bob"),
        "delete": lambda ledger: ledger.delete(job, who="bob"),
    }
    return lambda store: ledger[verb](Ledger(store))


def many(verb: str, *jobs: str) -> Callable[[Store], Any]:
    return lambda store: [
        answer.answer for answer in Many(store).answers(VERBS[verb](), Selection(ids=list(jobs)))
    ]


def prune(store: Store) -> Any:
    return Retention(store, {"failed": 0}).prune()


@pytest.mark.parametrize(
    ("states", "first", "second"),
    [
        (("pending", "failed"), lambda top, low: one("retry", low), lambda top, low: one("delete", top)),
        (
            ("pending", "pending"),
            lambda top, low: many("pause", top, low),
            lambda top, low: one("cancel", top),
        ),
        (("failed", "failed"), lambda top, low: many("retry", top, low), lambda top, low: prune),
        (("failed", "failed", "failed"), lambda top, middle, low: one("delete", middle), lambda *_: prune),
    ],
    ids=["retry-delete", "many-cancel", "many-prune", "delete-prune"],
)
def test_two_who_change_one_family_do_not_wait_in_a_circle(board, contenders, waits, states, first, second):
    """The first has the rows with which it begins, and waits until the second has its own, or waits."""
    line = by_id(board, *(JobState(state) for state in states))
    has_some, goes_on, done = threading.Event(), threading.Event(), threading.Event()
    held = contenders.store()

    def pause(*_: Any) -> None:
        if not has_some.is_set():
            has_some.set()
            assert goes_on.wait(30)

    sa.event.listen(held.engine, "after_cursor_execute", _once_a_row_is_locked(pause))
    with ThreadPoolExecutor(2) as pool, held, contenders.store() as other:
        one_of_two = pool.submit(first(*line), held)
        assert has_some.wait(30)
        the_other = pool.submit(second(*line), other)
        the_other.add_done_callback(lambda _: done.set())
        wait_until(lambda: done.is_set() or waits(), "the second to have its rows, or to wait")
        goes_on.set()
        one_of_two.result()
        the_other.result()


def _once_a_row_is_locked(pause: Callable[[], None]) -> Callable[..., None]:
    def look(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "FOR UPDATE" in statement:
            pause()

    return look


def test_whatever_is_asked_of_the_jobs_of_a_few_families_at_once_is_answered(board, contenders):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    shapes = random.Random(seed)
    jobs = [job for _ in range(4) for job in family(board, shapes)]

    def contend(number: int) -> None:
        rng = random.Random(seed + number)
        with contenders.store() as store:
            for _ in range(40):
                ask(store, rng, jobs)

    with ThreadPoolExecutor(6) as pool:
        for contended in [pool.submit(contend, number) for number in range(6)]:
            contended.result()


def family(board, rng: random.Random) -> list[str]:
    """A root, and jobs below it in any state, at any depth."""
    line = [board.put(JobState.RUNNING, owner="x", begun=1)]
    for _ in range(7):
        state = rng.choice([JobState.PENDING, JobState.RUNNING, JobState.FAILED, JobState.CANCELLED])
        line.append(board.put(state, parent=rng.choice(line), begun=rng.choice([0, 1])))
    return line


def ask(store: Store, rng: random.Random, jobs: list[str]) -> None:
    verb = rng.choice(["cancel", "retry", "retry", "delete"])
    some = rng.sample(jobs, rng.randrange(2, 12))
    new = NewJob(flow="copy", version=1, parameters="{}", labels_text="{}", labels={}, parent=some[0])
    asked: list[Callable[[Store], Any]] = [
        one(verb, some[0]),
        many(rng.choice([*VERBS, "retry"]), *some),
        lambda store: jobs.append(Ledger(store).post(new, who="ann")),
        prune,
    ]
    with contextlib.suppress(*REFUSALS):
        rng.choices(asked, [4, 4, 2, 1])[0](store)
