"""Bar: one day of one stock; and how a table of them is read."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from datetime import date, datetime
from typing import Final, NamedTuple

from ebbtide.tasks.bars.errors import BarsUnreadable
from ebbtide.wording import one_line

__all__ = ["Bar", "read_bars"]


class Bar(NamedTuple):
    """What a stock cost on one day, and how many of it changed hands."""

    day: date
    open: float
    high: float
    low: float
    close: float
    volume: int


# By what names the columns are known; the Chinese ones are those of the usual sources of A-shares.
_NAMES: Final = {
    "day": ("day", "date", "trade_date", "日期"),
    "open": ("open", "开盘"),
    "high": ("high", "最高"),
    "low": ("low", "最低"),
    "close": ("close", "收盘"),
    "volume": ("volume", "vol", "成交量"),
}
_HIGHEST_VOLUME = 2**63 - 1


class _Unfit(Exception):
    """Why a line is no bar, in words. Never leaves this module."""


def read_bars(data: bytes, source: str, start: date | None, end: date | None) -> list[Bar]:
    """The bars from `start` to `end`, both included, that CSV text holds; by day.

    The first line names the columns, in any order, others beside them. Days are written 2024-01-31 or
    20240131.

    Args:
        source: how an error names it.

    Raises:
        BarsUnreadable: a line is no bar, or a day comes twice. Nothing is left out in silence.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BarsUnreadable(source, "is no UTF-8 text") from None
    lines = csv.reader(text.splitlines(), strict=True)
    bars: dict[date, Bar] = {}
    try:
        columns = _columns(next(lines, []))
        for row in lines:
            if not row:
                continue
            bar = _bar(row, columns)
            if bar.day in bars:
                raise _Unfit(f"has the day {bar.day} twice")
            if (start is None or start <= bar.day) and (end is None or bar.day <= end):
                bars[bar.day] = bar
    except (_Unfit, csv.Error) as error:
        raise BarsUnreadable(source, f"cannot be read, line {max(1, lines.line_num)} {error}") from None
    return [bars[day] for day in sorted(bars)]


def _columns(header: list[str]) -> dict[str, int]:
    given = {name.strip().lower(): index for index, name in reversed(list(enumerate(header)))}
    return dict(_found(given))


def _found(given: dict[str, int]) -> Iterator[tuple[str, int]]:
    for column, names in _NAMES.items():
        index = next((given[name] for name in names if name in given), None)
        if index is None:
            raise _Unfit(f"names no column {column}")
        yield column, index


def _bar(row: list[str], columns: dict[str, int]) -> Bar:
    if len(row) <= max(columns.values()):
        raise _Unfit(f"has {len(row)} columns, fewer than the first one names")
    texts = {column: row[index].strip() for column, index in columns.items()}
    prices = {column: _number(column, texts[column]) for column in ("open", "high", "low", "close")}
    if prices["low"] > prices["high"]:
        raise _Unfit("has a low above its high")
    volume = _number("volume", texts["volume"])
    if not 0 <= volume <= _HIGHEST_VOLUME or volume != int(volume):
        raise _Unfit(f"has the volume {one_line(texts['volume'], 40)!r}")
    return Bar(_day(texts["day"]), **prices, volume=int(volume))


def _number(column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise _Unfit(f"has {one_line(text, 40)!r} for its {column}")
    return value


def _day(text: str) -> date:
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    raise _Unfit(f"has {one_line(text, 40)!r} for its day")
