"""The timeline: when the body and the undo of each task ran, as bars over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ebbtide.jobs import TaskRecord
from ebbtide.wording import span

__all__ = ["Bar", "Timeline", "timeline"]

# A bar of no length would not be seen.
_LEAST = 0.4
_MARKS = 4


@dataclass(frozen=True)
class Bar:
    """A stretch of time, in percent of the whole. `kind` is the class that says how it looks."""

    kind: str
    start: float
    length: float
    words: str


@dataclass(frozen=True)
class Timeline:
    """`marks` are places in percent, and the time that they stand for; `rows` a task's name and its bars."""

    marks: Sequence[tuple[float, str]]
    rows: Sequence[tuple[str, Sequence[Bar]]]


def timeline(tasks: Sequence[TaskRecord], now: float) -> Timeline | None:
    """Of records that are all of one attempt, in order of beginning. None: nothing has begun.

    Args:
        now: until when what runs is drawn.
    """
    if not tasks:
        return None
    first = min(task.begun_at for task in tasks)
    last = max(first + 0.001, *(_last(task, now) for task in tasks))
    whole = last - first

    def bar(kind: str, begun: float, ended: float, words: str) -> Bar:
        start = min(max((begun - first) / whole * 100, 0.0), 100.0 - _LEAST)
        length = min(max((ended - begun) / whole * 100, _LEAST), 100.0 - start)
        return Bar(kind, round(start, 3), round(length, 3), f"{words} {span(ended - begun)}")

    rows = []
    for task in tasks:
        ended = task.ended_at or (now if task.undo_begun_at is None else task.undo_begun_at)
        bars = [bar(_kind(task), task.begun_at, max(ended, task.begun_at), _words(task))]
        if task.undo_begun_at is not None:
            undone = task.undo_ended_at
            kind = "undone" if undone else "stuck" if task.undo_error else "undoing"
            words = {"undone": "undone in", "stuck": "undo fails since", "undoing": "being undone for"}[kind]
            bars.append(bar(kind, task.undo_begun_at, undone or max(now, task.undo_begun_at), words))
        rows.append((task.task if task.round <= 1 else f"{task.task} (round {task.round})", bars))
    marks = [(number * 100 / _MARKS, span(whole * number / _MARKS)) for number in range(_MARKS + 1)]
    return Timeline(marks, rows)


def _last(task: TaskRecord, now: float) -> float:
    ends = [task.ended_at, task.undo_begun_at, task.undo_ended_at]
    moving = task.how is None and task.undo_begun_at is None
    undoing = task.undo_begun_at is not None and task.undo_ended_at is None
    return max(task.begun_at, *(end for end in ends if end is not None), now if moving or undoing else 0.0)


def _kind(task: TaskRecord) -> str:
    return {"returned": "done", "raised": "failed", None: "running"}.get(task.how, "cancelled")


def _words(task: TaskRecord) -> str:
    return {"returned": "done in", "raised": "failed after", None: "running for"}.get(
        task.how, f"{task.how} after"
    )
