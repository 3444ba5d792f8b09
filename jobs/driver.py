"""PostgreSQL's driver, with one message less in each transaction: BEGIN travels with the first statement.

psycopg2 sends BEGIN by itself and waits for its answer, which takes as long as a small statement. Left in
autocommit it sends nothing of its own; here the first statement of a transaction has BEGIN before it, in the
same message.
"""

from __future__ import annotations

from typing import Any

from psycopg2 import extensions

__all__ = ["DriverConnection"]


class DriverConnection(extensions.connection):  # type: ignore[misc]  # psycopg2 is untyped
    """A connection in autocommit until `begin`, and again after `commit` or `rollback`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = _Cursor
        self.autocommit = True
        self._begin = ""  # to be said with the next statement

    def begin(self, level: str) -> None:
        """From the next statement on it is one transaction, of that level: `READ COMMITTED`, and the like."""
        self._begin = f"BEGIN ISOLATION LEVEL {level}"

    def take_begin(self) -> str:
        """What is to be said before a statement; the caller says it."""
        begin, self._begin = self._begin, ""
        return begin

    def commit(self) -> None:
        """Store the transaction. One in which nothing was said never was there."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        self._end("ROLLBACK")

    def _end(self, word: str) -> None:
        if not self.take_begin() and self.get_transaction_status() != extensions.TRANSACTION_STATUS_IDLE:
            with self.cursor() as cursor:
                cursor.execute(word)


class _Cursor(extensions.cursor):  # type: ignore[misc]  # psycopg2 is untyped
    def execute(self, query: str, values: Any = None) -> None:
        begin = self.connection.take_begin()
        super().execute(f"{begin};\n{query}" if begin else query, values)

    def executemany(self, query: str, rows: Any) -> None:
        # The driver sends a message for each of the rows.
        begin = self.connection.take_begin()
        if begin:
            super().execute(begin)
        super().executemany(query, rows)
