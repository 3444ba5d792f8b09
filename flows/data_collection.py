"""data-collection: collect daily bars of stocks from HTTP or files into SQL tables."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field
from taskflow import flow as taskflow_flow
from taskflow.patterns import linear_flow

from ebbtide.flows.policies import RetryPolicy
from ebbtide.flows.registry import flow
from ebbtide.flows.secret import Secret
from ebbtide.tasks.bars import CollectBars, PrepareTables
from ebbtide.tasks.bars.database import checked_database
from ebbtide.tasks.bars.source import checked_symbol, checked_template
from ebbtide.tasks.bars.tables import checked_table

__all__ = ["MAX_SYMBOLS", "RETRIES", "RETRY_SECONDS", "TIMEOUT_SECONDS", "data_collection"]

MAX_SYMBOLS = 20_000
TIMEOUT_SECONDS = 300.0
RETRIES = 3
RETRY_SECONDS = 60.0


def _refuse_twice(symbols: list[str]) -> list[str]:
    if len(set(symbols)) != len(symbols):
        raise ValueError("should name each symbol once")
    return symbols


Symbols = Annotated[
    list[Annotated[str, AfterValidator(checked_symbol)]],
    Field(min_length=1, max_length=MAX_SYMBOLS),
    AfterValidator(_refuse_twice),
]


@flow(
    "data-collection",
    version=1,
    returns="collected",
    exclusive="data-collection",
    # For what fails a whole collection; a stock that fails is asked for again within it, by the same numbers.
    retry=RetryPolicy(
        attempts=1 + RETRIES,
        interval_seconds=RETRY_SECONDS,
        factor=1.0,
        jitter=0.0,
        errors=("CollectionFailed", "DatabaseUnusable"),
    ),
)
def data_collection(
    source: Annotated[str, AfterValidator(checked_template)],
    symbols: Symbols,
    database: Annotated[str, AfterValidator(checked_database)] | None = None,
    database_secret: Secret | None = None,
    table: Annotated[str, AfterValidator(checked_table)] = "daily_bars",
    start: date | None = None,
    end: date | None = None,
    per_second: Annotated[float, Field(gt=0, le=1000)] = 5.0,
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = TIMEOUT_SECONDS,
    retries: Annotated[int, Field(ge=0, le=100)] = RETRIES,
    retry_seconds: Annotated[float, Field(ge=0, le=86_400)] = RETRY_SECONDS,
    token: Secret | None = None,
) -> taskflow_flow.Flow:
    """Collect daily bars of stocks from HTTP or files into SQL tables; one collection runs at a time.

    Args:
        source: a URL or an absolute path of CSV text, with {symbol} in it; {start} and {end} are filled in.
        symbols: which stocks.
        database: the SQLAlchemy URL of the database, without a password.
        database_secret: where the whole URL is kept, if it has a password; instead of database.
        table: the table to write; made where it is missing.
        start: the first day that is wanted.
        end: the last day that is wanted.
        per_second: requests a second, at most.
        timeout_seconds: how long one stock may take to arrive.
        retries: how often a stock is asked for again that failed in passing.
        retry_seconds: the pause before that; longer where the server asks for it.
        token: filled in for {token} in the source; without that, sent as a bearer token, to no other server.
    """
    if (database is None) == (database_secret is None):
        raise ValueError("give either database or database_secret")
    if token is None and "{token}" in source:
        raise ValueError("give token, which the source has in it")
    return linear_flow.Flow("data-collection").add(PrepareTables(name="prepare"), CollectBars(name="collect"))
