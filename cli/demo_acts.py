"""What the demo shows, act by act: a job that completes, one that is cancelled and undone, its retry."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from ebbtide.cli.demo_proof import (
    Check,
    Content,
    check_publication,
    check_unchanged,
    content,
    measure,
)
from ebbtide.cli.demo_stage import Canceller, Conductor, DemoFailed, Stage, Stall
from ebbtide.cli.snapshot import Snapshot, take
from ebbtide.cli.view import can_draw, draw, job_view, live
from ebbtide.cli.waiting import InOrder, Teller, tell

if TYPE_CHECKING:
    from ebbtide.jobs import Poster, TaskRecord

FLOW: Final = "file-processing"
REASON: Final = "the demo cancels this one half-way"

# A look costs a few milliseconds of a core that the runners want too: often only when it must be.
LOOK_SECONDS: Final = 0.02
QUICK_LOOK_SECONDS: Final = 0.002
DRAW_SECONDS: Final = 0.1
# Where the middle is: an archive is written by this share when the cancel is sent.
MIDDLE: Final = 0.3
# Archives made within this time cannot be caught at a share of their progress, stored 4 times a second.
QUICK_SECONDS: Final = 2.0
TRIES: Final = 5

# The steps of the flow, first to last: what is undone of a later step is undone before an earlier one.
STEPS: Final = ("prepare", "scan", "archive checksum", "manifest", "verify", "publish")


@dataclass
class Scene:
    """One job in one attempt: how it ended, and what was checked then."""

    name: str
    end: Snapshot
    checks: list[Check] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)


class Play:
    """The three acts on one stage. DemoFailed when one leaves nothing to go on with."""

    def __init__(
        self, stage: Stage, conductor: Conductor, poster: Poster, source: Path, out: IO[str]
    ) -> None:
        self._stage = stage
        self._conductor = conductor
        self._poster = poster
        self._source = source
        self._out = out
        self._listing: Content = {}
        self._left_out = 0

    def run(self) -> list[Scene]:
        with Canceller(self._stage, REASON) as canceller:
            self._title("1  Job one runs to its end.")
            first = self._first()
            self._title(
                "2  Two and three run side by side; two is cancelled half-way, and what it did undone."
            )
            click.echo(
                f"   (cancelled by another process: {canceller.pid}, `ebbtide cancel -`)", file=self._out
            )
            second, third = self._cancelled_beside_another(canceller, _archives_seconds(first.end))
        self._title("3  Two is retried: the same job, its second attempt.")
        return [first, second, third, self._retried(second)]

    def _first(self) -> Scene:
        job_id = self._post("one")
        (end,) = self._watch({"one": job_id})
        exclude = end.job.params["exclude"]
        if str(end.job.state) != "completed":
            raise DemoFailed(f"job one {end.job.ending}; {self._left_over('one')}")
        self._listing = content(self._source, exclude)
        self._left_out = measure(self._source, exclude).left_out
        return Scene("one", end, [_check_state(end, "completed"), self._check_published("one", end)])

    def _cancelled_beside_another(self, canceller: Canceller, seconds: float) -> tuple[Scene, Scene]:
        """Job two publishes where job one did: what that one published must survive."""
        before = content(self._stage.destination("one").parent)
        three = self._post("three")
        for number in range(TRIES):
            two = self._post("one")
            cue = Cue(canceller, two, archives_seconds=seconds, early=number > 0)
            end, beside = self._watch({"two": two, "three": three}, cue)
            if str(end.job.state) == "cancelled" and end.job.tasks_undone:
                break
            if str(end.job.state) not in ("cancelled", "completed"):
                raise DemoFailed(f"job two {end.job.ending}{_stuck(end.tasks)}")
            self._title("   It ended before it could be cancelled: too little to do. Once more.")
            before = content(self._stage.destination("one").parent)
        else:
            raise DemoFailed(
                f"job two ended before the cancel reached it, {TRIES} times: name a larger folder"
            )
        second = Scene("two", end, [_check_state(end, "cancelled"), *check_undo(end.tasks)])
        statement = "in and beside the destination all is as before it, no staging is left"
        second.checks.append(check_unchanged(before, self._stage.destination("one").parent, statement))
        checks = [_check_state(beside, "completed"), self._check_published("three", beside)]
        return second, Scene("three", beside, checks)

    def _retried(self, cancelled: Scene) -> Scene:
        self._poster.retry(cancelled.end.job.id)
        (end,) = self._watch({"two": cancelled.end.job.id})
        return Scene("two", end, [_check_state(end, "completed"), self._check_published("one", end)])

    def _post(self, destination: str) -> str:
        parameters = {"source": str(self._source), "destination": str(self._stage.destination(destination))}
        return self._poster.post(FLOW, parameters).id

    def _watch(self, jobs: dict[str, str], cue: Cue | None = None) -> list[Snapshot]:
        """Show these jobs until all of them rest; returns how they ended, in the same order."""
        with _screen(self._poster, list(jobs), self._out) as show:
            drawn = 0.0
            pause = threading.Event()
            stall = Stall(self._stage.folder)
            while True:
                snapshots = [take(self._poster, job_id) for job_id in jobs.values()]
                if cue is not None:
                    cue(snapshots)
                rest = all(snapshot.resting for snapshot in snapshots)
                undoing = any(str(snapshot.job.phase) == "cancelling" for snapshot in snapshots)
                if rest or undoing or time.monotonic() - drawn >= DRAW_SECONDS:
                    show(snapshots)
                    drawn = time.monotonic()
                    self._conductor.check()
                    stall.look(snapshots)
                if rest:
                    return snapshots
                pause.wait(DRAW_SECONDS if cue is None else cue.look_seconds)

    def _check_published(self, destination: str, end: Snapshot) -> Check:
        version = f"{end.job.id}-{end.job.attempt}"
        published = self._stage.destination(destination)
        return check_publication(published, version, self._listing, self._left_out)

    def _left_over(self, name: str) -> str:
        left = content(self._stage.destination(name).parent)
        return f"left behind: {', '.join(list(left)[:3])}" if left else "nothing is left in its destination"

    def _title(self, text: str) -> None:
        click.echo(f"\n{text}", file=self._out)


class Cue:
    """Has a job cancelled in the middle of its archives.

    In a job like the one before that took `archives_seconds` for them; short ones are over before their
    progress is stored, so there the clock says where the middle is. `early` does not wait for any archive.
    """

    def __init__(
        self,
        canceller: Canceller,
        job_id: str,
        *,
        archives_seconds: float,
        early: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._canceller = canceller
        self._job_id = job_id
        self._early = early
        self._now = now
        self._wait = archives_seconds * MIDDLE if archives_seconds < QUICK_SECONDS else None
        self._given = False
        self.look_seconds = LOOK_SECONDS if self._wait is None else QUICK_LOOK_SECONDS

    def __call__(self, snapshots: Sequence[Snapshot]) -> None:
        mine = next(snapshot for snapshot in snapshots if snapshot.job.id == self._job_id)
        if self._given or mine.resting or not self._is_middle(mine.tasks):
            return
        self._given = True
        self._canceller.cancel(self._job_id)

    def _is_middle(self, tasks: Sequence[TaskRecord]) -> bool:
        if self._early:
            return bool(tasks)
        archives = _archives(tasks)
        if self._wait is None:
            return any((task.fraction or 0.0) >= MIDDLE for task in archives)
        return bool(archives) and self._now() - archives[0].begun_at >= self._wait


@contextmanager
def _screen(
    poster: Poster, names: Sequence[str], out: IO[str]
) -> Iterator[Callable[[Sequence[Snapshot]], None]]:
    """What shows the snapshots of these jobs: drawn anew on a terminal, told in lines elsewhere."""
    if not can_draw(out):
        tellers = [Teller(poster, name) for name in names]
        in_order = InOrder()

        def tell_all(snapshots: Sequence[Snapshot]) -> None:
            found = [each for pair in zip(tellers, snapshots, strict=True) for each in pair[0](pair[1])]
            tell(in_order(found, last=all(snapshot.resting for snapshot in snapshots)), out)

        yield tell_all
        return
    with live(out) as screen:
        rows = max((screen.console.height - 4) // len(names) - 3, 3)

        def draw_all(snapshots: Sequence[Snapshot]) -> None:
            pairs = zip(names, snapshots, strict=True)
            draw(screen, *(job_view(snapshot, name, rows) for name, snapshot in pairs))

        yield draw_all


def check_undo(tasks: Sequence[TaskRecord]) -> list[Check]:
    """Whether exactly what had begun is undone, and each step before the step that it was built on."""
    missing = [task.task for task in tasks if task.undo_ended_at is None]
    begun = f"everything that had begun is undone, nothing else is (tasks: {len(tasks)})"
    wrong = [
        f"{earlier.task} before {later.task}"
        for earlier, later in itertools.permutations(tasks, 2)
        if _step(earlier) < _step(later) and (earlier.undo_begun_at or 0.0) < (later.undo_ended_at or 0.0)
    ]
    return [
        Check(begun, bool(tasks) and not missing, f"not undone: {', '.join(missing)}" if missing else ""),
        Check(
            "it was undone newest first: no step before those built on it", not wrong, "; ".join(wrong[:3])
        ),
    ]


def _step(task: TaskRecord) -> int:
    kind = task.task.partition("-")[0]
    return next(number for number, kinds in enumerate(STEPS) if kind in kinds.split())


def _check_state(end: Snapshot, wanted: str) -> Check:
    undone = "" if wanted == "completed" else ", everything undone"
    holds = str(end.job.state) == wanted and (wanted == "completed" or end.job.undo == "complete")
    return Check(f"ended {wanted}{undone}", holds, "" if holds else end.job.ending)


def _stuck(tasks: Sequence[TaskRecord]) -> str:
    stuck = [task for task in tasks if task.undo_begun_at is not None and task.undo_ended_at is None]
    return "".join(f"; {task.task} after {task.undo_tries} tries: {task.undo_error}" for task in stuck)


def _archives(tasks: Sequence[TaskRecord]) -> list[TaskRecord]:
    return [task for task in tasks if task.task.startswith("archive")]


def _archives_seconds(end: Snapshot) -> float:
    archives = _archives(end.tasks)
    return max(task.ended_at or 0.0 for task in archives) - min(task.begun_at for task in archives)
