"""A job drawn for a terminal: one bar a task, which runs backwards and empties when the task is undone."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from ebbtide.cli.output import console, percent, phase, plain, span, styled
from ebbtide.cli.snapshot import Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from ebbtide.jobs import TaskRecord

BAR_WIDTH: Final = 28
ROOM_FOR_ECHO: Final = 3
INDENT: Final = 2
LONGEST_NAME: Final = 32


def can_draw(stream: IO[str]) -> bool:
    """Whether lines on `stream` can be drawn over."""
    return stream.isatty() and not console(stream).is_dumb_terminal


@contextmanager
def live(stream: IO[str] | None = None) -> Iterator[Live]:
    """A part of the terminal that `draw` draws anew; it stays as it was last."""
    from rich.live import Live

    with Live(
        console=console(stream or sys.stdout), auto_refresh=False, vertical_overflow="crop", transient=False
    ) as screen:
        yield screen


def draw(screen: Live, *views: RenderableType) -> None:
    """Draw these, one below the other, over what was drawn before."""
    from rich.console import Group
    from rich.constrain import Constrain

    # A terminal echoes ^C: at the end of a full line that would scroll what is to be drawn over.
    screen.update(Constrain(Group(*views), screen.console.width - ROOM_FOR_ECHO), refresh=True)


def job_view(
    snapshot: Snapshot, title: str = "", rows: int = 16, *, now: float | None = None, hint: bool = False
) -> RenderableType:
    """The job in a line, its tasks below (at most `rows`, the newest), its cancel request at the end.

    With `hint`, a job that nobody takes says how to start a conductor.
    """
    from rich.console import Group

    now = time.time() if now is None else now
    parts: list[RenderableType] = [_headline(snapshot, title, now)]
    tasks = _newest(snapshot.tasks, rows)
    hidden = len(snapshot.tasks) - len(tasks)
    if hidden:
        parts.append(styled(f"  ... and {hidden} more before", "dim"))
    if tasks:
        parts.append(_task_table(tasks, undo_order(snapshot.tasks)))
    parts.extend(_footnotes(snapshot))
    if hint and (unclaimed := snapshot.unclaimed(now)):
        parts.append(_line(f"  {unclaimed}", ""))
    return Group(*parts)


def cancel_words(snapshot: Snapshot) -> tuple[str, str]:
    """Who asked for the cancel and why; and how far it has come, each step in time since the request."""
    request = snapshot.job.cancel
    if request is None:
        return "", ""
    steps = (
        ("forwarded", request.forwarded_at),
        ("delivered", request.delivered_at),
        ("reverted", request.reverted_at),
    )
    reached = [f"{word} after {span(at - request.requested_at)}" for word, at in steps if at is not None]
    reason = f": {request.reason}" if request.reason else ""
    return f"requested by {request.who or request.source}{reason}", ", ".join(reached)


def _headline(snapshot: Snapshot, title: str, now: float) -> Text:
    from rich.text import Text

    job = snapshot.job
    line = Text("", no_wrap=True, overflow="ellipsis")
    if title:
        line.append(f"{plain(title)}  ", "bold")
    line.append(f"{job.id[:8]}  ", "dim" if title else "bold")
    line.append(f"{plain(job.flow)}  ")
    line.append_text(phase(str(job.phase)))
    if job.attempt > 1:
        line.append(f"  attempt {job.attempt}")
    total = f" of {job.tasks_total}" if job.tasks_total else ""
    line.append(f"  {job.tasks_done}{total} tasks done")
    if job.tasks_undone:
        line.append(f", {job.tasks_undone} undone", "yellow")
    if job.started_at is not None:
        line.append(f"  {span((job.ended_at or now) - job.started_at)}", "dim")
    return line


def _newest(tasks: Sequence[TaskRecord], rows: int) -> Sequence[TaskRecord]:
    """What fits: what is in motion is always among it."""
    if len(tasks) <= rows:
        return tasks
    moving = [task for task in tasks if _in_motion(task)][-rows:]
    others = [task for task in tasks if task not in moving]
    room = rows - len(moving)
    kept = moving + (others[-room:] if room else [])
    return [task for task in tasks if task in kept]


def _in_motion(task: TaskRecord) -> bool:
    return task.how is None or (task.undo_begun_at is not None and task.undo_ended_at is None)


def undo_order(tasks: Iterable[TaskRecord]) -> list[TaskRecord]:
    """The tasks whose undo has begun, in the order in which it did."""
    begun = [(task.undo_begun_at, task.undo_ended_at or math.inf, task) for task in tasks]
    return [task for at, _, task in sorted(begun, key=lambda one: (one[0] or 0.0, one[1])) if at is not None]


def _task_table(tasks: Sequence[TaskRecord], order: Sequence[TaskRecord]) -> Table:
    from rich.table import Table

    names = [task.task if task.round <= 1 else f"{task.task} #{task.round}" for task in tasks]
    # Only the words give way where the terminal is narrow.
    widest = min(max(len(plain(name)) for name in names) + INDENT, LONGEST_NAME)
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, width=widest, overflow="ellipsis")
    grid.add_column(width=BAR_WIDTH)
    grid.add_column(justify="right", width=len("100 %"))
    grid.add_column()
    for task, name in zip(tasks, names, strict=True):
        place = order.index(task) + 1 if task in order else 0
        bar, share, words = _task_cells(task, place)
        grid.add_row(styled(f"{'':{INDENT}}{name}"), bar, share, _one_line(words))
    return grid


def _task_cells(task: TaskRecord, place: int) -> tuple[ProgressBar, Text, Text]:
    """Bar, share and words. What is undone has an empty bar: nothing of it is left."""
    from rich.progress_bar import ProgressBar

    done = 1.0 if task.how == "returned" else (task.fraction or 0.0)
    if task.undo_ended_at is not None:
        took = span(task.undo_ended_at - (task.undo_begun_at or task.undo_ended_at))
        return (
            ProgressBar(1.0, 0.0, BAR_WIDTH),
            styled(""),
            styled(f"undone {ordinal(place)}, in {took}", "yellow"),
        )
    if task.undo_begun_at is not None:
        if task.undo_error is not None:
            return _bar(done, "red"), styled(percent(done)), styled(f"undo failed: {task.undo_error}", "red")
        tries = f", try {task.undo_tries}" if task.undo_tries > 1 else ""
        # How far an undo is nobody says; what it works on is what had been done.
        bar = ProgressBar(1.0, done, BAR_WIDTH, pulse=True, pulse_style="yellow")
        return bar, styled("<<<", "yellow"), styled(f"undoing{tries}", "yellow")
    if task.how == "returned":
        took = span((task.ended_at or task.begun_at) - task.begun_at)
        return _bar(1.0, "green"), styled("100 %"), styled(f"done in {took}", "green")
    if task.how is not None:
        words = f"{task.how}: {task.error}" if task.error and task.how == "raised" else task.how
        return _bar(done, "red"), styled(percent(done)), styled(words, "red")
    return _bar(done, "cyan"), styled(percent(done)), styled(task.message or "running", "")


def ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _bar(fraction: float, style: str) -> ProgressBar:
    from rich.progress_bar import ProgressBar

    return ProgressBar(1.0, fraction, BAR_WIDTH, complete_style=style, finished_style=style)


def _footnotes(snapshot: Snapshot) -> Iterator[RenderableType]:
    asked, reached = cancel_words(snapshot)
    if asked:
        yield _line(f"  cancel {asked}", "yellow")
    if reached:
        yield _line(f"         {reached}", "yellow")
    job = snapshot.job
    if job.error:
        yield _line(f"  {job.error_task or 'error'}: {job.error}", "red")
    if job.park_reason:
        yield _line(f"  parked: {job.park_reason}", "magenta")
    if job.not_undone:
        yield _line(f"  {job.standing}", "magenta")


def _line(words: str, style: str) -> Text:
    return _one_line(styled(words, style))


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
