"""Holding, retries, pauses and ways back, each through a crash at every commit of the job's life.

Promises: P7, P10.
"""

from pathlib import Path

import pytest
from taskflow.patterns import linear_flow

from ebbtide import RetryPolicy
from ebbtide.flows import Registry, savepoint
from ebbtide.jobs import Poster
from ebbtide.jobs.pausing import Pauses
from ebbtide.tasks import CancelableTask
from tests.process.lives import Life, lives, note

pytestmark = [
    pytest.mark.sqlite_only("test_incident_through_crashes has its holders killed on every store"),
    pytest.mark.timeout(180),  # each makes dozens of processes
]


class Step(CancelableTask):
    """Writes what it does; one that `fails` does so in the first attempt, until it is mended."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        super().__init__(name=name)
        self.fails = fails

    def execute(self, folder: str) -> None:
        note(folder, "begin", self.name)
        if self.fails and self.job.attempt == 1 and not Path(folder, "mended").exists():
            raise OSError("busy")
        note(folder, "end", self.name)

    def revert(self, folder: str) -> None:
        note(folder, "undo", self.name)


@pytest.fixture
def registry() -> Registry:
    made = Registry()

    @made.flow("breaks")
    def breaks(folder: str) -> linear_flow.Flow:
        return linear_flow.Flow("breaks").add(Step("a"), Step("b"), Step("c", fails=True), Step("d"))

    @made.flow("saved")
    def saved(folder: str) -> linear_flow.Flow:
        return linear_flow.Flow("saved").add(Step("a"), savepoint("here"), Step("b"), Step("c"), Step("d"))

    return made


@pytest.fixture
def lives_of(prepared, registry, tmp_path):
    """A life of a job of that flow for each commit, and a poster."""

    def made(flow, **wishes):
        def begin(number):
            return Life(prepared, registry, tmp_path / str(number), number, flow, **wishes)

        for life in lives(begin, at_least=8):
            with Poster(prepared, registry=registry) as poster:
                yield life, poster

    return made


def names(poster, life):
    return [entry.name for entry in poster.entries(life.job)]


def undos(life):
    """The tasks in the order in which their undo began first."""
    return list(dict.fromkeys(line.split()[1] for line in life.lines if line.startswith("undo")))


def ends(life):
    return [line.split()[1] for line in life.lines if line.startswith("end")]


def test_a_job_that_holds_goes_on_from_its_failure_with_nothing_undone_whenever_its_holder_dies(lives_of):
    for life, poster in lives_of("breaks", on_failure="hold"):
        life.hold()
        held = life.shown
        assert (held.state, held.not_undone) == ("parked", ["a", "b", "c"]), life.told
        (life.folder / "mended").touch()
        poster.retry(life.job, from_failure=True)
        life.hold()

        ended = life.shown
        assert (ended.state, ended.attempt) == ("completed", 1), life.told
        assert undos(life) == [], life.told
        assert list(dict.fromkeys(ends(life))) == ["a", "b", "c", "d"], life.told
        assert names(poster, life).count("parked") == 1, life.told


def test_a_job_that_is_tried_again_by_itself_is_undone_and_tried_once_whenever_its_holder_dies(lives_of):
    for life, poster in lives_of("breaks", retry=RetryPolicy(attempts=2, interval_seconds=0)):
        life.hold()

        ended = life.shown
        assert (ended.state, ended.attempt, ended.retries) == ("completed", 2, 1), life.told
        assert undos(life) == ["c", "b", "a"], life.told
        last = max(number for number, line in enumerate(life.lines) if line.startswith("undo"))
        again = [line for line in life.lines[last:] if line.startswith("end")]
        assert list(dict.fromkeys(again)) == ["end a", "end b", "end c", "end d"], life.told
        assert names(poster, life).count("retry_scheduled") == 1, life.told


def asks_at_c(life, ask):
    """Ask it once, when task c has ended."""

    def meet(name, task, execution, store):
        asked = life.folder / "asked"
        if (name, task) == ("task.ended", "c") and not asked.exists():
            ask(Pauses(store))
            asked.touch()
            execution.pause()

    return meet


def test_a_paused_job_rests_and_goes_on_whenever_its_holder_dies(lives_of):
    for life, poster in lives_of("saved"):
        life.hold(asks_at_c(life, lambda pauses, job=life.job: pauses.pause(job, who="ann")))
        assert life.shown.state == "paused", life.told
        assert "begin d" not in life.lines, life.told
        poster.resume(life.job)
        life.hold()

        assert (life.shown.state, life.shown.attempt, undos(life)) == ("completed", 1, []), life.told
        assert list(dict.fromkeys(ends(life))) == ["a", "b", "c", "d"], life.told
        assert (names(poster, life).count("paused"), names(poster, life).count("resumed")) == (1, 1), (
            life.told
        )


def test_a_rewound_job_is_undone_to_its_savepoint_and_goes_on_whenever_its_holder_dies(lives_of):
    for life, poster in lives_of("saved"):
        life.hold(asks_at_c(life, lambda pauses, job=life.job: pauses.rewind(job, "here", who="ann")))
        paused = life.shown
        assert (paused.state, paused.attempt) == ("paused", 1), life.told
        assert undos(life) == ["c", "b"], life.told
        assert "begin d" not in life.lines, life.told
        poster.resume(life.job)
        life.hold()

        assert (life.shown.state, life.shown.attempt) == ("completed", 1), life.told
        assert undos(life) == ["c", "b"], life.told
        last = max(number for number, line in enumerate(life.lines) if line.startswith("undo"))
        again = [line for line in life.lines[last:] if line.startswith("end")]
        assert list(dict.fromkeys(again)) == ["end b", "end c", "end d"], life.told
        assert names(poster, life).count("rewind_requested") == 1, life.told
