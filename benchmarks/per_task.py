"""Milliseconds, commits and statements per task, against stock TaskFlow on the same database."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from measuring import FLOWS, arguments, database, heading, scratch, table
from stock import Stock

from ebbtide.conductor.execution import Execution
from ebbtide.conductor.options import RunOptions
from ebbtide.flows import load_flows
from ebbtide.jobs import Poster
from ebbtide.jobs.claims import Claims, new_owner_id
from ebbtide.jobs.store import Store

THREADS = 4

Shape = tuple[str, int]  # a pattern of TaskFlow, and how many tasks


@dataclass
class Measured:
    """What one process measured, by shape."""

    seconds: dict[Shape, float] = field(default_factory=dict)
    commits: dict[Shape, int] = field(default_factory=dict)
    statements: dict[Shape, int] = field(default_factory=dict)


class Ours:
    """What a runner does with a claimed job, in this process."""

    def __init__(self, url: str, threads: int) -> None:
        self._registry = load_flows([FLOWS])
        self._poster = Poster(url, registry=self._registry)
        self._store = Store(url)
        self._claims = Claims(self._store, new_owner_id(), name="measured", lease_seconds=3600)
        self._claims.register(flows=["measured"], runners=1, isolation="thread")
        self._options = RunOptions(
            url,
            (FLOWS,),
            owner=self._claims.owner,
            task_threads=threads,
            patience_seconds=20.0,
            log_lines=1000,
        )

    @property
    def sql(self) -> sa.Engine:
        return self._store.engine

    def run(self, shape: str, tasks: int) -> float:
        """Run a job of `tasks` tasks that do nothing; returns the seconds from its claim to its outcome."""
        flow = f"measured.{shape}"
        self._poster.post(flow, {"tasks": tasks})
        claim = self._claims.claim([f"{flow}@1"])
        assert claim is not None
        began = time.perf_counter()
        edge = Execution(self._store, self._registry, claim, self._options).run()
        seconds = time.perf_counter() - began
        if edge != "completed":
            raise RuntimeError(f"the job ended by {edge}")
        return seconds

    def close(self) -> None:
        self._poster.close()
        self._store.close()


CONTENDERS: dict[str, Callable[[str, int], Any]] = {"ebbtide": Ours, "stock": Stock}


def measure(
    name: str, folder: str | None, server: str | None, shapes: list[Shape], *, counted: bool
) -> Measured:
    """Run each shape once, after a warm-up, and if `counted` once more, since counting slows."""
    measured = Measured()
    with scratch(folder) as place, database(server, place) as url:
        contender = CONTENDERS[name](url, THREADS)
        try:
            for shape, _ in shapes:
                contender.run(shape, 3)
            for shape, tasks in shapes:
                measured.seconds[shape, tasks] = contender.run(shape, tasks)
            counts = count(contender.sql) if counted else Counter()
            for shape, tasks in shapes if counted else ():
                counts.clear()
                contender.run(shape, tasks)
                measured.commits[shape, tasks] = counts.pop("COMMIT")
                measured.statements[shape, tasks] = counts.total() - counts["BEGIN"] - counts["ROLLBACK"]
        finally:
            contender.close()
    return measured


def count(engine: sa.Engine) -> Counter[str]:
    """Count what the database is told, by the statement's first word.

    SQLite tells by itself. For PostgreSQL it is what SQLAlchemy hands to the driver: commits, also of what
    only read, and messages, which may hold several statements; a BEGIN is not among them.
    """
    counts: Counter[str] = Counter()
    if engine.dialect.name == "postgresql":
        sa.event.listen(engine, "commit", lambda _: counts.update(["COMMIT"]))
        sa.event.listen(engine, "after_cursor_execute", lambda *_: counts.update(["MESSAGE"]))
        return counts

    def trace(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(lambda text: counts.update([text.split(None, 1)[0].upper()]))

    engine.dispose()
    sa.event.listen(engine, "connect", trace)
    return counts


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each is run, taking turns")
    parser.add_argument("--tasks", type=int, nargs="+", default=[10, 50, 100], help="tasks in a flow")
    parser.add_argument("--only", choices=list(CONTENDERS), help="leave the other one out")
    options = parser.parse_args()
    shapes = [("linear", tasks) for tasks in options.tasks] + [("unordered", max(options.tasks))]
    names = [options.only] if options.only else list(CONTENDERS)

    heading(options.database)
    measured: dict[str, list[Measured]] = {name: [] for name in names}
    for turn in range(options.rounds):
        for name in names:
            # A fresh process each: stock TaskFlow leaves tables in memory that slow the whole process.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                done = pool.submit(measure, name, options.folder, options.database, shapes, counted=turn == 0)
                measured[name].append(done.result())
    show(shapes, measured, "messages/task" if options.database else "statements/task")


def show(shapes: list[Shape], measured: dict[str, list[Measured]], said: str) -> None:
    rows = []
    for shape in shapes:
        pattern, tasks = shape
        seconds = {name: [one.seconds[shape] for one in runs] for name, runs in measured.items()}
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        for name, (first, *_) in measured.items():
            rows.append(
                [
                    f"{pattern} {tasks}",
                    name,
                    f"{1000 * middle[name] / tasks:.2f}",
                    f"{1000 * min(seconds[name]) / tasks:.2f}",
                    f"{middle['stock'] / middle[name]:.1f}" if "stock" in middle else "-",
                    str(first.commits[shape]),
                    f"{first.commits[shape] / tasks:.2f}",
                    f"{first.statements[shape] / tasks:.2f}",
                ]
            )
    table(
        "a run of a flow whose tasks do nothing, per task",
        ["flow", "by", "ms", "best ms", "times faster", "commits", "commits/task", said],
        rows,
    )


if __name__ == "__main__":
    main()
