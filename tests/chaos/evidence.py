"""All that the checker may look at: what clients were told, what tasks told, and two tables of the ledger."""

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.chaos.history import Call, History


@dataclass(frozen=True)
class JobRow:
    """A row of `jobs`. `word` is the label by which the client that posted it calls it."""

    id: str
    word: str
    state: str
    attempt: int
    undo: str | None
    entries: int


@dataclass(frozen=True)
class Entry:
    """A row of `job_entries`."""

    job: str
    number: int
    name: str
    from_state: str | None
    to_state: str | None
    attempt: int
    epoch: int
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effect:
    """A line of the effect log. `at` is from before it was written; the order of the lines is true."""

    what: str
    task: str
    job: str
    attempt: int
    epoch: int
    pid: int
    at: float


@dataclass(frozen=True)
class Evidence:
    history: History
    jobs: list[JobRow]
    entries: list[Entry]
    effects: list[Effect]
    made: set[tuple[str, str]]  # the files that are there at the end, as job and task

    @cached_property
    def entries_of(self) -> dict[str, list[Entry]]:
        return _grouped(sorted(self.entries, key=lambda entry: entry.number), "job")

    @cached_property
    def effects_of(self) -> dict[str, list[Effect]]:
        return _grouped(self.effects, "job")

    @cached_property
    def posts(self) -> dict[str, Call]:
        """By word."""
        return {call.args["word"]: call for call in self.calls("post")}

    @cached_property
    def calls_of(self) -> dict[str, list[Call]]:
        """The calls about a job, by its id."""
        grouped = defaultdict(list)
        for call in self.history.calls:
            if "job" in call.args:
                grouped[call.args["job"]].append(call)
        return grouped

    def calls(self, op: str) -> list[Call]:
        return [call for call in self.history.calls if call.op == op]

    def is_serial(self, job: JobRow) -> bool:
        """Whether one task of it follows the other."""
        return bool(self.posts[job.word].args["order"] == "linear")

    def is_held(self, effect: Effect) -> bool:
        """Whether a runner told it that nobody could end for a while."""
        return effect.pid in self.history.held

    def tell(self, job_id: str) -> str:
        """Everything about a job."""
        lines = [str(row) for row in self.jobs if row.id == job_id]
        words = {row.word for row in self.jobs if row.id == job_id}
        lines += [f"  {call}" for word in words if (call := self.posts.get(word))]
        lines += [f"  {call}" for call in self.calls_of.get(job_id, ())]
        lines += [f"  {entry}" for entry in self.entries_of.get(job_id, ())]
        lines += [f"  {effect}" for effect in self.effects_of.get(job_id, ())]
        return "\n".join(lines)


def _grouped(rows: Iterable[Any], key: str) -> dict[str, list[Any]]:
    grouped = defaultdict(list)
    for row in rows:
        grouped[getattr(row, key)].append(row)
    return grouped


def read_jobs(url: str) -> list[JobRow]:
    """The rows of `jobs`, past all code of the product. The label is what a job is called by."""
    with _asking(url) as connection:
        rows = connection.execute(
            sa.text(
                "SELECT id, value, state, attempt, undo, entries FROM jobs "
                "LEFT JOIN job_labels ON job = id AND key = 'word' ORDER BY created_at"
            )
        )
        return [JobRow(*row) for row in rows]


def read_entries(url: str) -> list[Entry]:
    """The rows of `job_entries`, in the same way."""
    with _asking(url) as connection:
        rows = connection.execute(
            sa.text(
                "SELECT job, number, name, from_state, to_state, attempt, epoch, detail "
                "FROM job_entries ORDER BY job, number"
            )
        )
        return [Entry(**{**row._mapping, "detail": json.loads(row.detail)}) for row in rows]


@contextlib.contextmanager
def _asking(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def keep(folder: Path, evidence: Evidence) -> None:
    """Write down what the store says, which may be gone with its disk; the other files are there already."""
    for name, rows in (("jobs", evidence.jobs), ("job_entries", evidence.entries)):
        (folder / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows))
