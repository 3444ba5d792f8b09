"""Getting the tables ready."""

from __future__ import annotations

import os
from typing import Any

from ebbtide.tasks.bars.database import Database
from ebbtide.tasks.bars.source import Source
from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.files.staging import remove_file
from ebbtide.tasks.http import require_httpx

__all__ = ["PrepareTables", "url_of"]


def url_of(database: str | None, database_secret: str | None) -> str:
    """The URL of the database: a flow is given one of them."""
    return str(database if database_secret is None else database_secret)


class PrepareTables(CancelableTask):
    """Make the tables of bars where they are missing.

    execute: refuses a table of that name that lacks a column. Then makes those that are missing; with an
    SQLite database, the file as well. Provides ``prepared``, the names of the tables it has made.

    undo: removes those of the tables that this task has made, as far as nothing is in them; and the
    SQLite file that it has made, if no table is left in it.

    Args of execute:
        source: where bars will come from.
        database: the URL of the database; or `database_secret`, with its password.
        table: the name of the table of bars, with which those of the others begin.
    """

    default_provides = "prepared"

    def execute(
        self, source: str, database: str | None, database_secret: str | None, table: str
    ) -> dict[str, Any]:
        if Source.is_remote(source):
            require_httpx()
        with Database(self, url_of(database, database_secret), table) as tables:
            # What is made is recorded before it is made, or what a run that died had just made would
            # be nobody's. A file is made by the first look into it.
            known: dict[str, Any] = {"made": [], "file": False}
            if self.interrupted and self.saved:
                known = self.saved
            fresh = known["file"] or (tables.file is not None and not os.path.lexists(tables.file))
            self.checkpoint({"made": known["made"], "file": fresh})
            tables.refuse_foreign()
            missing = tables.missing()
            made = [*known["made"], *(name for name in missing if name not in known["made"])]
            self.checkpoint({"made": made, "file": fresh})
            tables.create(missing)
        return {"made": made}

    def revert(self, database: str | None, database_secret: str | None, table: str) -> None:
        if not self.saved:
            return  # it made nothing
        with Database(self, url_of(database, database_secret), table) as tables:
            if self.saved["file"] and not os.path.lexists(str(tables.file)):
                return
            if self.saved["made"]:
                tables.drop_empty(self.saved["made"])
            if self.saved["file"] and not tables.has_tables():
                remove_file(str(tables.file))
