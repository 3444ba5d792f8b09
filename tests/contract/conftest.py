"""A store of one's own, a clock that only a test sets, and jobs in any state."""

import itertools
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ebbtide.jobs import moments, tables
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store
from ebbtide.testing import FakeClock
from tests.model.recorded import ByHand

# What it asserts is told in full, as in a test.
pytest.register_assert_rewrite("tests.contract.ledger_machine")


class Clock(FakeClock):
    """The clock of this process and of its database.

    Args:
        tell: is given unix seconds and seconds since boot whenever they change.
    """

    def __init__(self, tell: Callable[[float, float], None]) -> None:
        super().__init__()
        self._tell = tell
        self.moved()

    def moved(self) -> None:
        self._tell(self.now, self.boot)


class Board:
    """The store as a test sees it: it puts jobs of any state there and reads what was written."""

    def __init__(self, store: Store, clock: Clock, by_hand: ByHand) -> None:
        self.store = store
        self.clock = clock
        self.by_hand = by_hand
        self.ledger = Ledger(store)
        self._numbers = itertools.count(1)

    def post(self, flow: str = "copy", **options: Any) -> str:
        """Post a job the way a client does; returns its id."""
        given: dict[str, Any] = {"version": 1, "parameters": "{}", "labels_text": "{}", "labels": {}}
        given |= options
        return self.ledger.post(NewJob(flow=flow, **given), who="ann")

    def put(self, state: JobState, **columns: Any) -> str:
        """Put a job there that is in `state` with one entry in its history; returns its id."""
        job = columns.pop("id", None) or str(uuid.uuid4())
        row = {
            "flow": "copy",
            "version": 1,
            "created_at": self.clock.now,
            "due_at": self.clock.now,
            "entries": 1,
        }
        row |= {"id": job, "state": state.value} | columns
        entry = {
            "number": 1,
            "at": self.clock.now,
            "name": "posted",
            "attempt": row.get("attempt", 1),
            "epoch": 0,
        }
        with self.store.write() as connection:
            connection.execute(sa.insert(tables.jobs).values(**row))
            connection.execute(sa.insert(tables.job_entries).values(job=job, detail="{}", **entry))
            connection.execute(sa.insert(tables.job_parameters).values(job=job, parameters="{}", labels="{}"))
        self.by_hand.put(job, row)
        return job

    def add(self, table: sa.Table, **columns: Any) -> None:
        with self.store.write() as connection:
            connection.execute(sa.insert(table).values(**columns))

    def add_task(self, job: str, task: str, **columns: Any) -> None:
        """A task that began; it runs unless `how` says how it ended."""
        row = {
            "attempt": 1,
            "round": 1,
            "position": next(self._numbers),
            "epoch": 1,
            "begun_at": self.clock.now,
        }
        if "how" in columns:
            columns.setdefault("ended_at", self.clock.now)
        self.add(tables.job_tasks, **(row | {"job": job, "task": task} | columns))

    def change(self, job: str, **columns: Any) -> None:
        with self.store.write() as connection:
            query = sa.update(tables.jobs).where(tables.jobs.c.id == job).values(**columns)
            entries = connection.scalars(query.returning(tables.jobs.c.entries)).one()
        self.by_hand.changed(job, entries, columns)

    def row(self, job: str) -> sa.Row[Any]:
        with self.store.read() as connection:
            return connection.execute(sa.select(tables.jobs).where(tables.jobs.c.id == job)).one()

    def rows(self, table: sa.Table, job: str | None = None) -> list[dict[str, Any]]:
        """All rows, or those of one job, by primary key."""
        query = sa.select(table).order_by(*table.primary_key.columns)
        if job is not None:
            query = query.where(table.c.job == job)
        with self.store.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def history(self, job: str) -> list[str]:
        """The names of its entries. Their numbers are gapless, and the job knows the last one."""
        entries = self.rows(tables.job_entries, job)
        assert [entry["number"] for entry in entries] == list(range(1, self.row(job).entries + 1))
        return [entry["name"] for entry in entries]

    def last(self, job: str) -> dict[str, Any]:
        """The newest entry of its history."""
        return self.rows(tables.job_entries, job)[-1]


@pytest.fixture
def clock(
    made: str, store_kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clock]:
    """The clock of this process and of its database; other processes keep the real one."""

    def nobody(now: float, boot: float) -> None:
        """SQLite asks this process what time it is."""

    def server(now: float, boot: float) -> None:
        statement = "UPDATE test_clock SET now = %s, boot = %s"
        request.getfixturevalue("postgresql").query(made, statement, now, boot)

    fake = Clock(nobody if store_kind == "sqlite" else server)
    asked = {"WallNow": "(SELECT now FROM test_clock)", "LeaseNow": "(SELECT boot FROM test_clock)"}
    for name, query in asked.items():
        monkeypatch.setitem(moments._ON_POSTGRESQL, name, query)
    with fake.installed():
        yield fake


@pytest.fixture(scope="session")
def _empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all its tables and no job, made once."""
    path = tmp_path_factory.mktemp("empty") / "ebbtide.db"
    with Store(f"sqlite:///{path}") as store:
        ensure_schema(store)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


def _with_tables(url: str) -> None:
    """What every database on the server is copied from: all tables, no job, and a clock to be set."""
    with Store(url) as store:
        ensure_schema(store)
        with store.write() as connection:
            connection.execute(sa.text("CREATE TABLE test_clock (now float8, boot float8)"))
            connection.execute(sa.text("INSERT INTO test_clock VALUES (0, 0)"))


@pytest.fixture
def made(store_kind: str, replay: Callable[[str], None], request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database with all its tables and no job."""
    if store_kind == "postgresql":
        server = request.getfixturevalue("postgresql")
        with server.database(_with_tables) as url:
            yield url
            replay(url)
        return
    database = request.getfixturevalue("database")
    shutil.copyfile(request.getfixturevalue("_empty"), database.removeprefix("sqlite:///"))
    yield database


@pytest.fixture
def store(made: str) -> Iterator[Store]:
    with Store(made) as opened:
        yield opened


@pytest.fixture
def board(store: Store, clock: Clock, by_hand: ByHand) -> Board:
    return Board(store, clock, by_hand)


@pytest.fixture
def conductor(store: Store, clock: Clock) -> Callable[..., Claims]:
    """Register a conductor of that name, with a lease of 30 seconds."""

    def register(name: str = "one", lease_seconds: float = 30.0) -> Claims:
        claims = Claims(store, name, name=name, lease_seconds=lease_seconds)
        claims.register(flows=["copy@1"], runners=1, isolation="thread")
        return claims

    return register
