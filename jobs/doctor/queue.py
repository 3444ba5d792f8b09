"""Whether the jobs of a store have somebody who runs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ebbtide import __version__
from ebbtide.jobs.conductors import ALIVE, EXPIRED, ConductorRecord, read_conductors
from ebbtide.jobs.doctor.finding import Finding, fine, note, wrong
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store
from ebbtide.jobs.views import Views
from ebbtide.jobs.waits import A_CONDUCTOR, A_RESUMER

__all__ = ["look"]

_SUBJECT = "conductors"
# As many as are read to see what they wait for; all of them may be very many.
_SAMPLE = 500
_HELD_OR_DUE = (JobState.PENDING, JobState.RUNNING)


def look(store: Store) -> Iterator[Finding]:
    """Conductors, what waits for them, and what waits for a person."""
    found = read_conductors(store)
    alive = [each for each in found if each.state == ALIVE]
    views = Views(store)
    # Those that run as well: one whose holder is gone waits for another.
    unended = [job for state in _HELD_OR_DUE for job in views.jobs(state=state, limit=_SAMPLE)]
    waiting = Counter(job.waits_for for job in unended if job.waits_for)
    yield from _about(alive, sum(count for what, count in waiting.items() if what.startswith(A_CONDUCTOR)))
    for what, count in waiting.items():
        told = f"{_jobs(count)} for {what}"
        if what.startswith(A_RESUMER):
            yield note("jobs", told, "ebbtide resume --flow NAME, once it may go on")
        elif what.startswith(A_CONDUCTOR) and alive:
            yield wrong(_SUBJECT, told, "start a conductor with that flow in flow_modules, or cancel them")
    yield from _about_expired([each for each in found if each.state == EXPIRED and each.jobs])
    others = sorted({each.version or "an older one" for each in alive} - {__version__})
    if others:
        told = f"conductors run ebbtide {', '.join(others)}; this is {__version__}"
        yield note(_SUBJECT, told, "upgrade them one after the other; each drains on SIGTERM")
    parked = len(views.jobs(state=JobState.PARKED, limit=_SAMPLE))
    if parked:
        told = f"{parked if parked < _SAMPLE else f'{_SAMPLE} or more'} parked: an undo failed, or worse"
        yield note("jobs", told, "ebbtide ls --state parked; then ebbtide unpark or ebbtide accept")


def _about(alive: list[ConductorRecord], waiting: int) -> Iterator[Finding]:
    if alive:
        yield fine(_SUBJECT, f"{len(alive)} alive: {', '.join(each.name for each in alive)}")
    elif waiting:
        yield note(_SUBJECT, f"none runs, and {_jobs(waiting)}", "start one: ebbtide conductor")
    else:
        yield fine(_SUBJECT, "none runs, and no job waits for one")


def _about_expired(expired: list[ConductorRecord]) -> Iterator[Finding]:
    for each in expired:
        words = f"{each.name} fell silent with {len(each.jobs)} running; they are taken over by others"
        yield note(_SUBJECT, words, f"see what became of it on {each.host}, and that another one runs")


def _jobs(count: int) -> str:
    many = f"{_SAMPLE} jobs or more wait" if count >= _SAMPLE else f"{count} jobs wait"
    return "1 job waits" if count == 1 else many
