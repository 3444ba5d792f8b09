"""An incident in a diamond, through a crash at every commit of its life: of the holder before or after it.

The undo of one branch fails: the other branch is undone, what is before both is held, the job is parked. Once
that is mended and the job unparked, all is undone in order and the job ends cancelled, its receipt complete.
Promises: P3, P7, P10.
"""

import json
from pathlib import Path

import pytest
from taskflow.patterns import graph_flow

from ebbtide.flows import Registry
from ebbtide.jobs import Poster
from ebbtide.jobs.ledger import Ledger
from ebbtide.tasks import CancelableTask
from tests.process.lives import Life, lives, note


class Step(CancelableTask):
    """Writes what it does; the undo of `left` fails until it is mended."""

    def execute(self, folder: str, **needs: str) -> str:
        note(folder, "begin", self.name)
        return f"made by {self.name}"

    def revert(self, folder: str, result: str) -> None:
        if self.name == "left" and not Path(folder, "mended").exists():
            note(folder, "broke", self.name)
            raise OSError("busy")
        note(folder, "undo", self.name)


def step(name: str, *needs: str) -> Step:
    return Step(name=name, provides=name, requires=needs)


@pytest.fixture
def registry() -> Registry:
    made = Registry()

    @made.flow("mended")
    def mended(folder: str) -> graph_flow.Flow:
        sides = (step("left", "top"), step("right", "top"))
        return graph_flow.Flow("mended").add(step("top"), *sides, step("bottom", "left", "right"))

    return made


@pytest.mark.timeout(180)  # it makes dozens of processes
def test_an_incident_is_parked_mended_and_undone_through_a_crash_at_every_commit(
    prepared, registry, tmp_path
):
    def begin(number):
        return Life(prepared, registry, tmp_path / str(number), number, "mended")

    for life in lives(begin, at_least=15):

        def cancel(name, task, execution, store, job=life.job):
            if (name, task) == ("task.ended", "bottom"):
                Ledger(store).cancel(job, reason="enough", who="bob")
                execution.event.set("enough", "user")

        life.hold(cancel)
        with Poster(prepared, registry=registry) as poster:
            parked = poster.show(life.job)
            told = life.told
            assert (parked.state, parked.not_undone) == ("parked", ["top", "left"]), told
            assert parked.park_reason.startswith("the undo of left failed"), told
            assert {"undo bottom", "undo right"} <= set(life.lines), told
            assert "undo top" not in life.lines, told
            (life.folder / "mended").touch()
            poster.unpark(life.job)
        life.hold()
        with Poster(prepared, registry=registry) as poster:
            ended, receipt = poster.show(life.job), poster.receipt(life.job)
        told = life.told
        assert (ended.state, ended.undo, ended.not_undone) == ("cancelled", "complete", []), told
        undos = [line for line in life.lines if line.startswith("undo")]
        assert undos.index("undo bottom") < undos.index("undo right") < undos.index("undo top"), told
        assert undos.index("undo left") < undos.index("undo top"), told
        assert (receipt.complete, receipt.not_undone, receipt.cancel.who) == (True, (), "bob"), told
        assert [each.task for each in receipt.undone][-2:] == ["left", "top"], told
        assert receipt.reverted_seconds is not None, told
        assert json.loads(json.dumps(receipt.as_dict()))["complete"] is True
