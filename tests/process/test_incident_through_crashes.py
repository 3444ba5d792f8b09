"""An incident in a diamond, through a crash at every commit of its life: of the holder before or after it.

The undo of one branch fails: the other branch is undone, what is before both is held, the job is parked. Once
that is mended and the job unparked, all is undone in order and the job ends cancelled, its receipt complete.
Promises: P3, P7, P10.
"""

import json
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from taskflow.patterns import graph_flow

from ebbtide import faults

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.execution import Execution
    from ebbtide.conductor.options import RunOptions
from ebbtide.flows import Registry
from ebbtide.jobs import Poster
from ebbtide.jobs.claims import Claims, new_owner_id
from ebbtide.jobs.ledger import Ledger
from ebbtide.jobs.store import Store
from ebbtide.tasks import CancelableTask

KEY = "mended@1"
AT_COMMITS = ("journal.committing", "journal.committed", "outcome.committing", "outcome.committed")


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


def note(folder: str, *words: str) -> None:
    with open(Path(folder, "effects"), "a") as log:
        log.write(" ".join(words) + "\n")


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


class Life:
    """One job, held by one process after another; the one that comes to a certain commit is killed there."""

    def __init__(self, database: str, registry: Registry, folder: Path, kill_at: int) -> None:
        self.database = database
        self.registry = registry
        self.folder = folder
        self.kill_at = kill_at
        self.killed = False
        folder.mkdir()
        with Poster(database, registry=registry) as poster:
            self.job = poster.post("mended", {"folder": str(folder)}).id

    def hold(self) -> None:
        """Have it held until it ends or is parked."""
        for _ in range(4):
            self._hold_once()
            if self.state in ("cancelled", "failed", "completed", "parked"):
                return
        raise AssertionError(f"it is still {self.state}")

    @property
    def state(self) -> str:
        with Poster(self.database, registry=self.registry) as poster:
            return poster.show(self.job).state

    @property
    def lines(self) -> list[str]:
        return (self.folder / "effects").read_text().splitlines()

    def _hold_once(self) -> None:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._be_holder()
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        self.killed |= os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0

    def _be_holder(self) -> None:
        with Store(self.database) as store:
            gone = self.folder / "owner"
            if gone.exists():
                Claims(store, gone.read_text(), name="gone", lease_seconds=3600).release()
            claims = Claims(store, new_owner_id(), name="holder", lease_seconds=3600)
            claims.register(flows=[KEY], runners=1, isolation="process")
            gone.write_text(claims.owner)
            options = RunOptions(self.database, (), claims.owner, 4, 10.0, 100)
            claim = claims.claim([KEY])
            assert claim is not None
            execution = Execution(store, self.registry, claim, options)
            with faults.watch(lambda name, task: self._come(name, task, execution, store)):
                execution.run()

    def _come(self, name: str, task: str | None, execution: Execution, store: Store) -> None:
        if (name, task) == ("task.ended", "bottom"):
            Ledger(store).cancel(self.job, reason="enough", who="bob")
            execution.event.set("enough", "user")
        if name in AT_COMMITS:
            count = self.folder / "count"
            number = int(count.read_text()) + 1 if count.exists() else 1
            count.write_text(str(number))
            if number == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def _lives(database: str, registry: Registry, folder: Path) -> Iterator[Life]:
    """A life for each commit; the last one meets no crash."""
    number = 0
    while True:
        number += 1
        life = Life(database, registry, folder / str(number), number)
        yield life
        if not life.killed:
            assert number > 15, "so few commits have such a job"
            return


def test_an_incident_is_parked_mended_and_undone_through_a_crash_at_every_commit(
    prepared, registry, tmp_path
):
    for life in _lives(prepared, registry, tmp_path):
        life.hold()
        with Poster(prepared, registry=registry) as poster:
            parked = poster.show(life.job)
            told = f"killed at commit {life.kill_at}: {life.lines}"
            assert (parked.state, parked.not_undone) == ("parked", ["top", "left"]), told
            assert parked.park_reason.startswith("the undo of left failed"), told
            assert {"undo bottom", "undo right"} <= set(life.lines), told
            assert "undo top" not in life.lines, told
            (life.folder / "mended").touch()
            poster.unpark(life.job)
        life.hold()
        with Poster(prepared, registry=registry) as poster:
            ended, receipt = poster.show(life.job), poster.receipt(life.job)
        told = f"killed at commit {life.kill_at}: {life.lines}"
        assert (ended.state, ended.undo, ended.not_undone) == ("cancelled", "complete", []), told
        undos = [line for line in life.lines if line.startswith("undo")]
        assert undos.index("undo bottom") < undos.index("undo right") < undos.index("undo top"), told
        assert undos.index("undo left") < undos.index("undo top"), told
        assert (receipt.complete, receipt.not_undone, receipt.cancel.who) == (True, (), "bob"), told
        assert [each.task for each in receipt.undone][-2:] == ["left", "top"], told
        assert receipt.reverted_seconds is not None, told
        assert json.loads(json.dumps(receipt.as_dict()))["complete"] is True
