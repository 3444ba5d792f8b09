"""Stock TaskFlow, on SQLite with the settings of Ebbtide's store: write-ahead log, synchronous=FULL.

As fast as its own options allow: the tables exist, and a thread pool is handed in and kept, since the
engine's own pool takes a second to shut down after each run.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa
from taskflow import engines, task
from taskflow.flow import Flow
from taskflow.patterns import linear_flow, unordered_flow
from taskflow.persistence import models
from taskflow.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend

__all__ = ["Stock"]

_PATTERNS = {"linear": linear_flow.Flow, "unordered": unordered_flow.Flow}


class _Nothing(task.Task):  # type: ignore[misc]  # taskflow is untyped
    def execute(self) -> None:
        pass


def _build(shape: str, tasks: int) -> Flow:
    return _PATTERNS[shape](shape).add(*(_Nothing(f"task-{number}") for number in range(tasks)))


class Stock:
    """TaskFlow's SQLAlchemy backend on a database, and its parallel engine."""

    def __init__(self, url: str, threads: int) -> None:
        self._backend = SQLAlchemyBackend({"connection": url})
        if self.sql.dialect.name == "sqlite":
            sa.event.listen(self.sql, "connect", _set_up)
        self._backend.get_connection().upgrade()
        self._pool = ThreadPoolExecutor(threads)

    @property
    def sql(self) -> sa.Engine:
        engine: sa.Engine = self._backend.engine
        return engine

    def run(self, shape: str, tasks: int) -> float:
        """Run a flow of `tasks` tasks that do nothing; returns the seconds it took.

        They begin where a conductor would begin with a job: its logbook is stored and has to be read.
        """
        book = models.LogBook("measured")
        detail = models.FlowDetail(shape, book.uuid)
        book.add(detail)
        self._backend.get_connection().save_logbook(book)
        began = time.perf_counter()
        stored = self._backend.get_connection().get_logbook(book.uuid)
        engine = engines.load(
            _build(shape, tasks),
            flow_detail=stored.find(detail.uuid),
            backend=self._backend,
            engine="parallel",
            executor=self._pool,
        )
        engine.run()
        return time.perf_counter() - began

    def close(self) -> None:
        self._pool.shutdown()
        self._backend.close()


def _set_up(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
