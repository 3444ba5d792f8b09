"""Collecting the bars."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any, Final

from ebbtide.tasks.bars.bar import Bar
from ebbtide.tasks.bars.batch import Batch
from ebbtide.tasks.bars.database import Database
from ebbtide.tasks.bars.errors import BarsUnreadable, CollectionFailed
from ebbtide.tasks.bars.pace import Pace
from ebbtide.tasks.bars.prepare import url_of
from ebbtide.tasks.bars.source import Source
from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.http import Client, Patience, RequestFailed
from ebbtide.wording import one_line

__all__ = ["CollectBars"]

_TOLD: Final = 1000
"""How many failures a result lists; it counts them all."""
_SILENT_SECONDS: Final = 60.0


class CollectBars(CancelableTask):
    """Read the bars of each symbol and write them, each symbol in one transaction.

    execute: writes what is new or other than before; rows that are the same stay as they are. A symbol that
    cannot be collected, after `retries`, is listed, and the others go on; only if none can be, that is
    an error. After a crash it goes on with the symbols of which nothing is written yet. Every write
    proves the fence token. Provides ``collected``.

    undo: deletes exactly the rows of this batch, and restores those that it has replaced. A row that
    somebody else has changed since stays.

    Args of execute:
        source: where bars come from, with ``{symbol}`` in it; if wanted ``{start}``, ``{end}``, ``{token}``.
        symbols: which ones, in this order.
        start, end: the days that are wanted, both included; None: all.
        database, database_secret, table: where to; see `PrepareTables`.
        per_second: requests a second, at most, with those that are made again.
        timeout_seconds: how long one symbol may take to arrive.
        retries: how often a symbol is asked for again that failed in passing.
        retry_seconds: the pause before that; longer where the server asks for it.
        token: sent as ``Authorization: Bearer``; where the source has ``{token}`` in it, only there.
    """

    default_provides = "collected"

    def execute(
        self,
        source: str,
        symbols: Sequence[str],
        start: date | None,
        end: date | None,
        database: str | None,
        database_secret: str | None,
        table: str,
        per_second: float,
        timeout_seconds: float,
        retries: int,
        retry_seconds: float,
        token: str | None,
    ) -> dict[str, Any]:
        patience = Patience(retries, retry_seconds, longest_seconds=max(timeout_seconds, retry_seconds))
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(Database(self, url_of(database, database_secret), table))
            client = None
            if Source.is_remote(source):
                silent = min(timeout_seconds, _SILENT_SECONDS)
                bearer = None if "{token}" in source else token
                client = stack.enter_context(Client(self, timeout_seconds=silent, token=bearer))
            batch = Batch(store.tables, self._batch, self.job.epoch)
            places = Source(source, start, end, client, seconds=timeout_seconds, token=token)
            reading = _Reading(self, places, patience, Pace(per_second) if client else None)
            failed = self._collect(symbols, reading, store, batch)
            counts = store.transaction(batch.counts)
        if len(failed) == len(symbols):
            raise CollectionFailed(len(failed), failed[0]["error"])
        return {
            "batch": self._batch,
            "total_stocks": len(symbols),
            "processed_stocks": len(symbols) - len(failed),
            "failed_stocks": len(failed),
            **counts,
            "failed": failed[:_TOLD],
        }

    def _collect(
        self, symbols: Sequence[str], reading: _Reading, store: Database, batch: Batch
    ) -> list[dict[str, str]]:
        """Write what is read of each symbol; returns those that could not be, with the reason."""
        failed: list[dict[str, str]] = []
        store.transaction(batch.begin)
        written = set(store.transaction(batch.symbols))
        for processed, symbol in enumerate(symbols):
            self._tell(processed, len(symbols), symbol)
            if symbol in written:
                continue  # before a crash
            try:
                bars = reading.bars(symbol, processed / len(symbols))
            except (RequestFailed, BarsUnreadable) as error:
                failed.append({"symbol": symbol, "error": one_line(error)})
                continue
            store.transaction(partial(batch.store, symbol=symbol, bars=bars))
        self._tell(len(symbols), len(symbols), "")
        return failed

    def revert(
        self, symbols: Sequence[str], database: str | None, database_secret: str | None, table: str
    ) -> None:
        with Database(self, url_of(database, database_secret), table) as store:
            batch = Batch(store.tables, self._batch, self.job.epoch)
            if store.missing() or not store.transaction(batch.known):
                return  # undone before a crash, or it had not come to its first write
            found = store.transaction(batch.symbols)
            for done, symbol in enumerate(found):
                self.report(done / len(found), f"taking back {done:,} / {len(found):,} {symbol}")
                store.transaction(partial(batch.withdraw, symbol=symbol))
            store.transaction(batch.end_undo)

    @property
    def _batch(self) -> str:
        return f"{self.job.id}-{self.job.attempt}"

    def _tell(self, processed: int, total: int, symbol: str) -> None:
        self.checkpoint()
        self.report(processed / total, f"{processed} / {total} {symbol}".rstrip())


class _Reading:
    """Reads symbols from their source, at its pace, and as often as patience lasts."""

    def __init__(self, task: CollectBars, places: Source, patience: Patience, pace: Pace | None) -> None:
        self._task, self._places, self._patience, self._pace = task, places, patience, pace

    def bars(self, symbol: str, fraction: float) -> list[Bar]:
        """What the source has for a symbol; `fraction` is how far the collection is.

        Raises:
            Cancelled: a cancel was requested meanwhile.
            RequestFailed, BarsUnreadable: it has nothing that could be read.
        """
        failures = 0
        while True:
            try:
                if self._pace is not None:
                    self._task.sleep(self._pace.wait())
                return self._places.bars(symbol)
            except RequestFailed as error:
                failures += 1
                wait = self._patience.wait(failures, error.retry_after)
                if not error.passing or wait is None:
                    raise
                self._task.report(fraction, f"{symbol} {error.problem}; asking again in {wait:.0f} s")
                self._task.sleep(wait)
