"""A job as the board `sql` hands it out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from taskflow import states
from taskflow.jobs import base

from ebbtide.jobs.board.rows import Row
from ebbtide.tasks import payload

if TYPE_CHECKING:
    from ebbtide.jobs.board.sql import SqlJobBoard

__all__ = ["SqlJob", "state_of"]

_LONGEST_PAUSE_SECONDS = 1.0


class SqlJob(base.Job):  # type: ignore[misc]  # taskflow is untyped
    """What was posted, which never changes; `state`, `last_modified` and `epoch` are asked for each time."""

    def __init__(self, board: SqlJobBoard, row: Row, backend: Any, book: Any = None) -> None:
        super().__init__(
            board,
            row["name"],
            uuid=row["uuid"],
            details=payload.decode(row["details"]),
            backend=backend,
            book=book,
            book_data=None if row["book"] is None else payload.decode(row["book"]),
        )
        self._priority = base.JobPriority(row["priority"])
        self._created_on = _moment(row["posted_at"])
        self._sequence = row["sequence"]

    @property
    def priority(self) -> base.JobPriority:
        return self._priority

    @property
    def sequence(self) -> int:
        """The number of its posting: the higher, the newer."""
        return int(self._sequence)

    @property
    def created_on(self) -> datetime:
        """When it was posted, in UTC, without a time zone: as TaskFlow's own boards have it."""
        return self._created_on

    @property
    def last_modified(self) -> datetime | None:
        """When it was posted, claimed or abandoned last. None: it is on the board no more."""
        row = self._board.row_of(self)
        return None if row is None else _moment(row["modified_at"] or row["posted_at"])

    @property
    def state(self) -> str:
        """UNCLAIMED, CLAIMED, or COMPLETE once it is on the board no more.

        Raises:
            JobFailure: the board is closed, or its database is away.
        """
        return state_of(self._board.row_of(self))

    @property
    def epoch(self) -> int | None:
        """How often it was claimed: with each claim a higher number, by which what is outside can refuse an
        owner of before. None: it is on the board no more.
        """
        row = self._board.row_of(self)
        return None if row is None else int(row["epoch"])

    def wait(
        self,
        timeout: float | None = None,
        delay: float = 0.01,
        delay_multiplier: float = 2.0,
        max_delay: float = _LONGEST_PAUSE_SECONDS,
        sleep_func: Callable[[float], object] | None = None,
    ) -> bool:
        """As promised by `Job`, with shorter pauses; one ends at once when the board is closed."""
        pause = sleep_func or self._board.pause
        return bool(super().wait(timeout, delay, delay_multiplier, max_delay, pause))

    def __lt__(self, other: object) -> bool:
        """Whether it is handed out before the other."""
        if not isinstance(other, SqlJob):
            return NotImplemented
        mine, theirs = _place(self), _place(other)
        return mine < theirs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SqlJob) and self.uuid == other.uuid

    def __hash__(self) -> int:
        return hash(self.uuid)


def state_of(row: Row | None) -> str:
    """The state of the job that has this row."""
    if row is None:
        return str(states.COMPLETE)
    return str(states.CLAIMED if row["held"] else states.UNCLAIMED)


def _place(job: SqlJob) -> tuple[int, int]:
    return (list(base.JobPriority).index(job.priority), job.sequence)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
