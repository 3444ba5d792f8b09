"""Waiting for a job to come to rest, with something to look at meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import IO, TYPE_CHECKING, NoReturn

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.output import clock, plain, say
from ebbtide.cli.snapshot import Happening, Snapshot, follow, happenings
from ebbtide.cli.view import can_draw, draw, job_view, live
from ebbtide.interrupts import Raised

if TYPE_CHECKING:
    from ebbtide.jobs import Poster


def see_through(
    poster: Poster, job_id: str, *, stream: IO[str], quiet: bool = False, to_pause: bool = False
) -> Snapshot:
    """Show a job on `stream` until it rests: drawn on a terminal, told line by line elsewhere.

    `quiet` shows nothing, `to_pause` ends with a pause as well. Ctrl-C ends the looking, never the job, and
    the program with 130.
    """
    try:
        with Raised():
            return _seen_through(poster, job_id, stream, quiet, to_pause)
    except KeyboardInterrupt:
        goes_on(job_id)


def _seen_through(poster: Poster, job_id: str, stream: IO[str], quiet: bool, to_pause: bool) -> Snapshot:
    snapshots = follow(poster, job_id, to_pause=to_pause)
    if quiet:
        return _last(snapshots, lambda snapshot: None)
    if can_draw(stream):
        with live(stream) as screen:
            rows = max(screen.console.height - 6, 4)
            return _last(snapshots, lambda snapshot: draw(screen, job_view(snapshot, rows=rows, hint=True)))
    teller, in_order = Teller(poster, hint=True), InOrder()

    def tell_of(snapshot: Snapshot) -> None:
        tell(in_order(teller(snapshot), last=snapshot.resting or snapshot.paused), stream)

    return _last(snapshots, tell_of)


def goes_on(job_id: str) -> NoReturn:
    """End the program after Ctrl-C, and say that the job does not end with it."""
    short = job_id[:8]
    say(f"job {short} goes on; `ebbtide watch {short}` shows it, `ebbtide cancel {short}` stops it")
    raise click.exceptions.Exit(Exit.INTERRUPTED)


def awaited(snapshot: Snapshot, wanted: str = "completed") -> Exit:
    """The exit code of having waited for `wanted`."""
    return Exit.DONE if str(snapshot.job.state) == wanted else Exit.ENDED_BADLY


class Teller:
    """Finds what to tell of a job from one snapshot to the next: each happening once."""

    def __init__(
        self, poster: Poster, title: str = "", *, now: Callable[[], float] = time.time, hint: bool = False
    ) -> None:
        self._poster = poster
        self._title = f"{title}: " if title else ""
        self._now = now
        self._before: Snapshot | None = None
        self._entries = 0
        self._hint = hint  # still to be given

    def __call__(self, snapshot: Snapshot) -> list[Happening]:
        entries = self._poster.entries(snapshot.job.id, after=self._entries)
        same_attempt = self._before is not None and self._before.job.attempt == snapshot.job.attempt
        found = happenings(self._before if same_attempt else None, snapshot, entries)
        self._entries = max([self._entries, *(entry.number for entry in entries)])
        self._before = snapshot
        now = self._now()
        if self._hint and (unclaimed := snapshot.unclaimed(now)):
            found.append(Happening(now, unclaimed))
            self._hint = False
        return [replace(each, text=self._title + each.text) for each in found]


class InOrder:
    """Puts what tellers find in the order in which it happened.

    History and tasks are separate reads, those of several jobs too, and what is read may be stored a while
    after the moment that it names: so no clock tells whether something older is still to be found. A
    happening is held back until all has been read once more.
    """

    def __init__(self) -> None:
        self._held: list[Happening] = []

    def __call__(self, found: Iterable[Happening], *, last: bool) -> list[Happening]:
        """What was found before, and what is new and older than that. With `last`, all there is."""
        newest = max((each.at for each in self._held), default=-math.inf)
        waiting = sorted([*self._held, *found], key=lambda happening: happening.at)
        self._held = [] if last else [each for each in waiting if each.at > newest]
        return waiting[: len(waiting) - len(self._held)]


def tell(found: Iterable[Happening], stream: IO[str]) -> None:
    """A line for each happening."""
    for happening in found:
        click.echo(f"{clock(happening.at)}  {plain(happening.text)}", file=stream)


def conclusion(snapshot: Snapshot) -> str:
    job, short = snapshot.job, snapshot.job.id[:8]
    words = f"job {short} {job.ending}"
    if str(job.state) == "parked":
        words += f"; once mended `ebbtide unpark {short}` goes on, `ebbtide accept {short}` closes it"
    return words


def _last(snapshots: Iterable[Snapshot], seen: Callable[[Snapshot], object]) -> Snapshot:
    for snapshot in snapshots:
        seen(snapshot)
    return snapshot
