"""What the benchmarks share: scratch databases, a real conductor, percentiles and tables."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import secrets
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from ebbtide.config import variable
from ebbtide.jobs.postgresql import Postgresql
from ebbtide.jobs.store import WAIT_SECONDS
from ebbtide.jobs.urls import as_text, normalise

__all__ = [
    "FLOWS",
    "Listener",
    "arguments",
    "conductor",
    "database",
    "heading",
    "median_ms",
    "scratch",
    "spread",
    "table",
]

HERE = Path(__file__).resolve().parent
FLOWS = "measured_flows"
_CONDUCTOR_ENDS_SECONDS = 30.0


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--folder", help="where SQLite files are made: its disk decides what a commit costs")
    parser.add_argument(
        "--database",
        metavar="URL",
        help="measure PostgreSQL instead: a database whose role may create others; what is measured is made "
        "beside it, and dropped",
    )
    return parser


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(seconds: Sequence[float]) -> list[str]:
    """The cells p50, p95, p99 and max, in milliseconds."""
    return [f"{1000 * percentile(seconds, share):.1f}" for share in (0.5, 0.95, 0.99, 1.0)]


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: the first column to the left, numbers to the right."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print(f"\n{title}")
    for row in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  " + "  ".join([row[0].ljust(len(first)), *others]))


def heading(server: str | None) -> None:
    """Print where this was measured: numbers of two machines, or of a busy one, do not compare."""
    load = os.getloadavg()[0]
    versions = " ".join(f"{name} {version(name)}" for name in ("taskflow", "SQLAlchemy"))
    store = f"SQLite {sqlite3.sqlite_version}" if server is None else _described(normalise(server))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}; Python {platform.python_version()}, "
        f"{store}, {versions}"
    )


def _described(server: URL) -> str:
    # What a commit waits for is as telling as the version.
    names = ("server_version", "fsync", "synchronous_commit")
    number, *settings = (_ask(server, f"SHOW {name}")[0][0] for name in names)
    told = ", ".join(f"{name} {value}" for name, value in zip(names[1:], settings, strict=True))
    return f"PostgreSQL {number} ({told})"


@contextlib.contextmanager
def scratch(folder: str | None) -> Iterator[Path]:
    """A temporary folder inside `folder`, whose file system is what the commits are measured on."""
    with tempfile.TemporaryDirectory(prefix="ebbtide-", dir=folder) as name:
        yield Path(name)


@contextlib.contextmanager
def database(server: str | None, place: Path) -> Iterator[str]:
    """The URL of a database without tables: a file in `place`, or one on the server that is dropped again."""
    name = f"ebbtide_{secrets.token_hex(4)}"
    if server is None:
        yield f"sqlite:///{place}/{name}.db"
        return
    url = normalise(server)
    _ask(url, f"CREATE DATABASE {name}")
    try:
        yield as_text(url.set(database=name))
    finally:
        _ask(url, f"DROP DATABASE {name} WITH (FORCE)")


def _ask(server: URL, statement: str) -> list[Any]:
    with contextlib.closing(Postgresql(server, WAIT_SECONDS).connect()) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return [] if cursor.description is None else cursor.fetchall()


@contextlib.contextmanager
def conductor(url: str, runners: int, **options: Any) -> Iterator[None]:
    """A conductor in a process of its own, with its keeper and runners, ready when the block begins."""
    # By the environment: everybody may read a command line, and the URL may hold a password.
    told = {variable(name): str(value) for name, value in (options | {"database": url}).items()}
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ebbtide", "conductor", "--json", "--log-level", "error"),
            *("--flow-module", FLOWS, "--runners", str(runners)),
        ],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=os.environ | told | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise SystemExit("the conductor did not start; its own words are above")
        yield
    finally:
        process.terminate()
        try:
            process.wait(_CONDUCTOR_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class Listener:
    """Hears from tasks in other processes through a socket in `folder`: which moment, and when."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "listener")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(60.0)

    def hear(self, moment: str) -> float:
        """Wait for the next message, which has to be `moment`; returns its time, unix seconds."""
        said, _, at = self._socket.recv(1024).decode().partition(" ")
        if said != moment:
            raise RuntimeError(f"a task said {said!r} where {moment!r} was to come")
        return float(at)

    def close(self) -> None:
        self._socket.close()


def median_ms(seconds: Iterable[float]) -> float:
    """The median, in milliseconds."""
    return 1000 * statistics.median(seconds)
