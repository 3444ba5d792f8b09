"""Waiting for what other processes and threads do, and what is told when it does not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ebbtide.jobs import Job, Poster

__all__ = ["WaitedInVain", "history", "wait_until"]

_T = TypeVar("_T")

_PAUSE_SECONDS = 0.01
_MAX_JOBS = 20


class WaitedInVain(TimeoutError):
    """What a test waited for did not come in time. The text tells all that is known."""


def wait_until(
    predicate: Callable[[], _T],
    what: str,
    *,
    poster: Poster | None = None,
    job: Job | str | None = None,
    seconds: float = 30.0,
    tell: Callable[[], str] | None = None,
) -> _T:
    """Wait until `predicate` returns something true; returns that. What it raises goes on to the caller.

    The predicate is asked a hundred times a second, by the real clock.

    Args:
        what: what is waited for, as the error tells it: "waited 30 s in vain for the undo to begin".
        poster: where to look up what the error tells of `job`, or of the latest jobs.
        job: a job or its id.
        seconds: for how long; longer than it ever takes on a busy machine, since only a test that fails waits
            so long.
        tell: what else the error is to tell.

    Raises:
        WaitedInVain: with the history of the job.
    """
    give_up = time.monotonic() + seconds
    pause = threading.Event()
    while not (found := predicate()):
        if time.monotonic() > give_up:
            parts = [f"waited {seconds:g} s in vain for {what}"]
            if poster is not None:
                parts.append(history(poster, job))
            if tell is not None:
                parts.append(tell())
            raise WaitedInVain("\n".join(parts))
        pause.wait(_PAUSE_SECONDS)
    return found


def history(poster: Poster, job: Job | str | None = None) -> str:
    """A job, or the twenty latest, with its history and its tasks, a line each."""
    if job is None:
        jobs = poster.list(limit=_MAX_JOBS)
    else:
        jobs = [poster.show(job if isinstance(job, str) else job.id)]
    return "\n".join(line for shown in jobs for line in _lines(poster, shown)) or "there is no job"


def _lines(poster: Poster, job: Job) -> list[str]:
    why = job.park_reason or job.error or job.waits_for
    lines = [f"job {job.id} {job.flow}@{job.version} {job.phase} {job.params}" + (f": {why}" if why else "")]
    for entry in poster.entries(job.id):
        told = [entry.number, entry.name, f"epoch={entry.epoch}", entry.actor, entry.detail]
        lines.append("  " + " ".join(str(each) for each in told if each))
    return lines + [f"  {record}" for record in poster.tasks(job.id)]
