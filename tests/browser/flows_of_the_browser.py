"""Flows that stand still until a test lets them on, so that it can look at them from each side."""

import threading
from pathlib import Path

from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows import flow, savepoint
from ebbtide.tasks import CancelableTask

_POLL_SECONDS = 0.02


class Step(CancelableTask):
    """Do a part of it. Undo: take it back, once the test lets it."""

    def __init__(self, name):
        super().__init__(name=name, provides=name)

    def execute(self, note):
        print(f"{self.name} says {note}")
        return note

    def revert(self, undo_gate):
        while undo_gate and not Path(undo_gate).exists():
            threading.Event().wait(_POLL_SECONDS)


class Hold(CancelableTask):
    """Wait until the gate is open. Undo: nothing is left."""

    def execute(self, gate):
        self.report(0.4, "waits at the gate")
        while gate and not Path(gate).exists():
            self.cancel.check()
            self.cancel.wait(_POLL_SECONDS)

    def revert(self): ...


class Breaks(CancelableTask):
    """Fail with the note."""

    def execute(self, note, breaks):
        if breaks:
            raise RuntimeError(note)

    def revert(self): ...


class Stuck(CancelableTask):
    """Do a part of it. Undo: fails until it is mended."""

    def execute(self): ...

    def revert(self, mended):
        if not Path(mended).exists():
            raise RuntimeError("the other side is away")


@flow("steps", returns="second")
def steps(gate: str = "", undo_gate: str = "", note: str = "hello", breaks: bool = False):
    """Three steps and a gate, which a cancel in the middle undoes."""
    both = unordered_flow.Flow("both").add(Step("left"), Step("right"))
    return linear_flow.Flow("steps").add(
        Step("first"), both, savepoint("halfway"), Step("second"), Hold(name="hold"), Breaks(name="breaks")
    )


@flow("stuck")
def stuck(mended: str, gate: str = ""):
    """A job whose undo fails at first."""
    return linear_flow.Flow("stuck").add(Stuck(name="part"), Hold(name="hold"))
