"""What a database is sent while something is done: each message to a server is waited for."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs.store import Store

__all__ = ["messages"]


def messages(store: Store, call: Callable[[], object]) -> list[tuple[str, Any]]:
    """What is sent to the database meanwhile, with its parameters; BEGIN and COMMIT come on top of that."""
    sent: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("BEGIN"):  # of SQLite
            sent.append((statement, parameters))

    sa.event.listen(store.engine, "before_cursor_execute", note)
    call()
    sa.event.remove(store.engine, "before_cursor_execute", note)
    return sent
