"""Browsing: jobs page by page, how many there are of each phase, the graph of one."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.errors import UsageError
from ebbtide.jobs.conductors import ConductorRecord, read_conductors
from ebbtide.jobs.counting import counts_of_phases
from ebbtide.jobs.records import Job, LogLine
from ebbtide.jobs.states import PHASES
from ebbtide.jobs.statistics import Statistics, statistics
from ebbtide.jobs.store import Store
from ebbtide.jobs.views import Views
from ebbtide.tasks import payload

__all__ = ["MAX_PAGE", "Browsing", "Page"]

MAX_PAGE = 200
MAX_TEXT = 100
MAX_TAIL = 1000


@dataclass(frozen=True)
class Page:
    """Jobs, newest first; `next` is what the following page is asked for with, None on the last one."""

    jobs: list[Job]
    next: str | None


class Browsing:
    """What a poster shows to those who look around. Its fields are the poster's."""

    _store: Store
    _views: Views
    _jobs_of: str | None

    def page(
        self,
        *,
        state: str | None = None,
        flow: str | None = None,
        labels: Mapping[str, str] | None = None,
        text: str | None = None,
        after: str | None = None,
        limit: int = 50,
        with_params: bool = False,
    ) -> Page:
        """A page of jobs. All filters must fit.

        Args:
            state: a word of state or of phase.
            text: is in the flow's name, in a label's key or value, or begins the id, in whatever case.
            after: `next` of the page before.
            limit: of jobs, at most 200.
            with_params: whether the jobs have their parameters, of which each may have a MiB.

        Raises:
            UsageError: a filter or the cursor cannot be used.
        """
        if state is not None and state not in PHASES:
            raise UsageError(f"no such state: {state[:40]!r}; one of {', '.join(PHASES)}")
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_PAGE:
            raise UsageError(f"the limit of a page should be a whole number of 1 to {MAX_PAGE}")
        if text is not None and len(text) > MAX_TEXT:
            raise UsageError(f"the text to look for has more than {MAX_TEXT} characters")
        cursor = None if after is None else _read_cursor(after)
        given = [flow, text, *(part for pair in (labels or {}).items() for part in pair)]
        if any(part is not None and payload.storable(part) != part for part in given):
            return Page([], None)  # no store takes such a text, so no job has it
        found = self._views.jobs(
            state=state,
            flow=flow,
            labels=labels,
            text=text or None,
            after=cursor,
            limit=limit + 1,
            with_params=with_params,
        )
        shown = found[:limit]
        more = len(found) > limit
        return Page(shown, _cursor(shown[-1]) if more else None)

    def counts(self) -> dict[str, int]:
        """How many jobs there are of each phase; every phase is there."""
        return counts_of_phases(self._store, self._jobs_of)

    def graph(self, job_id: str) -> dict[str, Any] | None:
        """The tasks of the present attempt (`tasks`, in an order in which they may run) and what comes
        before what (`links`, pairs of task names). None: no runner has begun with it yet.
        """
        return self._views.graph(self._views.resolve(job_id))

    def tail(self, job_id: str, limit: int = 200) -> list[LogLine]:
        """The last lines that its tasks logged and printed, at most 1,000 of them."""
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_TAIL:
            raise UsageError(f"the limit of a tail should be a whole number of 1 to {MAX_TAIL}")
        return self._views.tail(self._views.resolve(job_id), limit)

    def statistics(self, window_seconds: float | None = None, *, flow: str | None = None) -> Statistics:
        """How many jobs were posted, ended and parked, and how long they took; now, or in a window up to now.

        Args:
            window_seconds: how far back; None: all that the store holds.
            flow: only its jobs.

        Raises:
            UsageError: the window is no number of seconds above 0.
        """
        return statistics(self._store, window_seconds=window_seconds, flow=flow, jobs_of=self._jobs_of)

    def conductors(self) -> list[ConductorRecord]:
        """The conductors of the store, the newest first, with what runs there; of late, ended ones too."""
        return read_conductors(self._store, self._jobs_of)


def _cursor(job: Job) -> str:
    raw = struct.pack(">d", job.created_at) + job.id.encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[float, str]:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if len(text) <= 100 else b""
        (at,) = struct.unpack(">d", raw[:8])
        job_id = raw[8:].decode("ascii")
    except (binascii.Error, struct.error, ValueError) as error:
        raise UsageError("the cursor is none that this program has given") from error
    if at != at or not 0 <= at < 1e12 or len(job_id) != 36 or not set(job_id) <= set("0123456789abcdef-"):
        raise UsageError("the cursor is none that this program has given")
    return at, job_id
