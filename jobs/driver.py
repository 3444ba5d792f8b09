"""PostgreSQL's driver, with one message less in a transaction: BEGIN travels with the first statement.

psycopg2 sends BEGIN by itself and waits for its answer, which takes as long as a small statement. Left in
autocommit it sends nothing of its own; here the first statement of a transaction has BEGIN before it, in the
same message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from psycopg2 import extensions

__all__ = ["DriverConnection"]


class DriverConnection(extensions.connection):  # type: ignore[misc]  # psycopg2 is untyped
    """A connection in autocommit until `begin`, and again after `commit` or `rollback`.

    For `execute` and `executemany` with text: what goes to the server in other ways has no BEGIN before it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = _Cursor
        self.autocommit = True
        self._begin = ""  # to be said with the next statement
        self._refused = False  # in this transaction, before it was begun

    @property
    def failed(self) -> bool:
        """Whether a statement of the transaction was refused: nothing of it is to be stored any more."""
        return self._refused or bool(self.get_transaction_status() == extensions.TRANSACTION_STATUS_INERROR)

    def begin(self, level: str) -> None:
        """From the next statement on it is one transaction, of that level: `READ COMMITTED`, and the like."""
        self._begin = f"BEGIN ISOLATION LEVEL {level}"

    @contextlib.contextmanager
    def saying_begin(self) -> Iterator[str]:
        """Gives what is to be said before a statement; the block says it.

        A message that was not obeyed at all, as one with an error of syntax, has begun nothing: BEGIN goes
        with the next one then.
        """
        begin, self._begin = self._begin, ""
        try:
            yield begin
        except BaseException:
            if begin and self._idle:
                self._begin, self._refused = begin, True
            raise

    def commit(self) -> None:
        """Store the transaction. One in which nothing was said never was there."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        self._end("ROLLBACK")

    def _end(self, word: str) -> None:
        self._begin, self._refused = "", False
        if not self._idle:
            with self.cursor() as cursor:
                cursor.execute(word)

    @property
    def _idle(self) -> bool:
        return bool(self.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE)


class _Cursor(extensions.cursor):  # type: ignore[misc]  # psycopg2 is untyped
    def execute(self, query: str, values: Any = None) -> None:
        with self.connection.saying_begin() as begin:
            super().execute(f"{begin};\n{query}" if begin else query, values)

    def executemany(self, query: str, rows: Any) -> None:
        # The driver sends a message for each of the rows.
        with self.connection.saying_begin() as begin:
            if begin:
                super().execute(begin)
        super().executemany(query, rows)
