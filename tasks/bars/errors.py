"""What the tasks that collect bars raise, besides what requests do."""

from __future__ import annotations

from ebbtide.errors import EbbtideError
from ebbtide.wording import hide_password, one_line

__all__ = ["BarsError", "BarsUnreadable", "BatchTaken", "CollectionFailed", "DatabaseUnusable"]


class BarsError(EbbtideError):
    """Root of what these tasks raise. The job is undone; a retry is possible once the cause is gone."""


class BarsUnreadable(BarsError):
    """What a source holds for one symbol is no table of daily bars."""

    def __init__(self, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(source, problem)

    def __str__(self) -> str:
        return f"{one_line(self.source, 160)} {one_line(self.problem)}: mend it, then post its symbol again"


class DatabaseUnusable(BarsError):
    """The database, or a table of it, cannot be used. `database` is its URL without a password."""

    def __init__(self, database: str, problem: str, advice: str) -> None:
        self.database, self.problem, self.advice = hide_password(database), hide_password(problem), advice
        super().__init__(self.database, self.problem, advice)

    def __str__(self) -> str:
        return (
            f"database {one_line(self.database, 120)} cannot be used, {one_line(self.problem)}: {self.advice}"
        )


class BatchTaken(BarsError):
    """A later run of the same job writes this batch: whoever still runs here has been taken over."""

    def __init__(self, batch: str) -> None:
        self.batch = batch
        super().__init__(batch)

    def __str__(self) -> str:
        return f"batch {self.batch} belongs to a later run of its job: nothing was written"


class CollectionFailed(BarsError):
    """Not one symbol could be collected. `first` is what the first of them said."""

    def __init__(self, count: int, first: str) -> None:
        self.count, self.first = count, first
        super().__init__(count, first)

    def __str__(self) -> str:
        return f"none of the {self.count:,} symbols could be collected; of the first: {one_line(self.first)}"
