"""All histories of a store that a test has used: read past all our code, replayed, compared with the rows."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ebbtide.jobs.states import FINAL_STATES
from tests.model.replay import Entry, IllegalHistory, Seen, next_bare, replay, told

__all__ = ["ByHand", "complaint", "faults_of"]

# Asks a store a statement without values.
Ask = Callable[[str], list[Any]]

# Whether a store has a table for jobs.
_IN_A_FILE = "SELECT 1 FROM sqlite_master WHERE name = 'jobs'"
_ON_A_SERVER = "SELECT 1 FROM pg_tables WHERE schemaname = 'public' AND tablename = 'jobs'"
_FINAL = {state.value for state in FINAL_STATES}
_COLUMNS = ("state", "attempt", "epoch")


class ByHand:
    """What a test has written into rows of jobs past all our code, told by whoever wrote it."""

    def __init__(self) -> None:
        self._changes: dict[str, dict[int, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))

    def put(self, job: str, row: Mapping[str, Any]) -> None:
        """A job was put there in the middle of its life, with one entry."""
        self._changes[job][0] = {}
        self.changed(job, 1, {"attempt": 1, "epoch": 0} | dict(row))

    def changed(self, job: str, entries: int, columns: Mapping[str, Any]) -> None:
        """Columns of a job's row were changed when it had that many entries."""
        seen = {name: columns[name] for name in _COLUMNS if name in columns}
        if "cancel_requested_at" in columns:
            seen["requested"] = columns["cancel_requested_at"] is not None
        self._changes[job][entries] |= seen

    def of(self, job: str) -> dict[int, dict[str, Any]]:
        return self._changes.get(job, {})


def complaint(url: str, server: Any, by_hand: ByHand, *, bare: bool = False) -> str | None:
    """What is wrong with the histories of the store at `url`; None: nothing.

    Args:
        server: the PostgreSQL server of the tests; None for an SQLite file.
        bare: edges were applied by themselves, without the statements that go with each.
    """
    import psycopg2  # here: some tests run where nothing but pytest is installed

    try:
        with _open_file(url) if server is None else server.asking(url) as ask:
            has_tables = _IN_A_FILE if server is None else _ON_A_SERVER
            faults = faults_of(ask, by_hand, bare=bare) if ask(has_tables) else []
    except (sqlite3.Error, psycopg2.Error) as error:
        return f"the store cannot be read: {error}"
    return "\n".join(faults) or None


@contextmanager
def _open_file(url: str) -> Iterator[Ask]:
    path = Path(url.removeprefix("sqlite:///"))
    if not path.exists():
        yield lambda statement: []
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield lambda statement: connection.execute(statement).fetchall()


def faults_of(ask: Ask, by_hand: ByHand, *, bare: bool = False) -> list[str]:
    """What is wrong with the histories of a store that has our tables: a text for each job concerned."""
    rows = ask(
        "SELECT j.id, j.state, j.attempt, j.epoch, j.entries, j.cancel_requested_at IS NOT NULL,"
        " e.number, e.name, e.from_state, e.to_state, e.attempt, e.epoch"
        " FROM jobs j LEFT JOIN job_entries e ON e.job = j.id ORDER BY j.id, e.number"
    )
    jobs: dict[str, tuple[Any, ...]] = {}
    histories: dict[str, list[Entry]] = defaultdict(list)
    for row in rows:
        jobs[row[0]] = tuple(row[1:6])
        if row[6] is not None:
            histories[row[0]].append(Entry(*row[6:]))
    outcomes: dict[str, dict[int, str]] = defaultdict(dict)
    if jobs:
        for job, attempt, state in ask("SELECT job, attempt, state FROM job_outcomes"):
            outcomes[job][attempt] = state
    found = []
    for job, row in jobs.items():
        entries = histories[job]
        try:
            if bare:
                _compare_bare(row, replay(entries, by_hand.of(job), step=next_bare))
            else:
                _compare(row, outcomes[job], entries, by_hand.of(job))
        except IllegalHistory as fault:
            found.append(f"job {job}: {fault}\n{told(entries)}")
    return found


def _compare(
    row: tuple[Any, ...], outcomes: dict[int, str], entries: list[Entry], changed: dict[int, dict[str, Any]]
) -> None:
    """P13 and P2: history comes out at the row, and each attempt that it ends has that outcome."""
    steps = replay(entries, changed)
    if not steps:
        raise IllegalHistory("it has no history")
    last = steps[-1]
    seen = (last.state, last.attempt, last.epoch, last.number, last.requested)
    stored = (*row[:4], bool(row[4]))
    if seen != stored:
        raise IllegalHistory(f"history comes out at {seen}, its row says {stored}")
    ends = _ends(entries, steps)
    if {attempt: outcomes.get(attempt) for attempt in ends} != ends or (not changed and outcomes != ends):
        raise IllegalHistory(f"history tells of the outcomes {ends}, stored are {outcomes}")


def _compare_bare(row: tuple[Any, ...], steps: list[Seen]) -> None:
    if not steps or (steps[-1].state, steps[-1].number) != (row[0], row[3]):
        raise IllegalHistory(f"history comes out at {steps[-1:]}, its row says {row}")


def _ends(entries: list[Entry], steps: list[Seen]) -> dict[int, str]:
    return {
        entry.attempt: seen.state
        for entry, seen in zip(entries, steps, strict=True)
        if entry.target in _FINAL
    }
