"""Words: how times, shares and states are told on a page."""

from __future__ import annotations

import math
import re

from markupsafe import Markup

from ebbtide.jobs import Job
from ebbtide.jobs.states import FINAL_STATES
from ebbtide.wording import percent, span

__all__ = ["PHASE_ORDER", "age", "percent", "prose", "span", "standing"]

_CODE = re.compile("`(.+?)`", re.DOTALL)

# As the list counts them: what moves, what wants a person, what has ended.
PHASE_ORDER = (
    "scheduled",
    "pending",
    "running",
    "cancelling",
    "reverting",
    "overdue",
    "paused",
    "parked",
    "completed",
    "failed",
    "cancelled",
)


def age(seconds: float) -> str:
    """How long ago, in one unit: moments, 12 s, 3 min, 4 h, 2 d."""
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (math.inf, 86400, "d")):
        if seconds < limit:
            return f"{max(int(seconds // size), 0)} {unit}"
    raise AssertionError("nothing is older than for ever")


def prose(text: str) -> Markup:
    """What an author has written of a flow, with what is between backticks as code. All of it is escaped."""
    told, done = Markup(""), 0
    for code in _CODE.finditer(text):
        told += Markup("{}<code>{}</code>").format(text[done : code.start()], code[1])
        done = code.end()
    return told + text[done:]


def standing(job: Job) -> str:
    """How far a job is, in words: forwards in tasks done, backwards in tasks undone."""
    total = f" of {job.tasks_total}" if job.tasks_total else ""
    if job.phase in ("cancelling", "overdue", "reverting"):
        # Of how many is not said: what is interrupted is undone as well, and had not been done.
        return f"{job.tasks_undone} undone" if job.tasks_undone else "is being stopped"
    if job.state in ("failed", "cancelled"):
        return _ended(job)
    if job.waits_for and job.state not in FINAL_STATES:
        return f"waits for {job.waits_for}"
    if job.phase in ("pending", "scheduled", "paused") and not job.tasks_done:
        return "not begun"
    return f"{job.tasks_done}{total} task{'' if (job.tasks_total or job.tasks_done) == 1 else 's'}"


def _ended(job: Job) -> str:
    if job.undo == "complete":
        return "everything undone"
    return "accepted as it is" if job.undo == "accepted" else "nothing had begun"
