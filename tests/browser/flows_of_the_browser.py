"""Flows that stand still until a test lets them on, so that it can look at them from each side."""

import datetime
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows import Secret, flow, savepoint
from ebbtide.tasks import CancelableTask

# Texts that would be markup or scripts wherever a page does not take them for text.
PROBE = (
    "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>{{7*7777}}</pre></textarea></title>"
    "javascript:alert(3)"
)
ELSEWHERE = "</script><svg onload=alert(4)><a href=javascript:alert(5)>x</a>&lt;b&gt;"

_POLL_SECONDS = 0.02


class Step(CancelableTask):
    """Do a part of it. Undo: take it back, once the test lets it."""

    def __init__(self, name, **more):
        super().__init__(name=name, provides=name, **more)

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


class Wants(CancelableTask):
    """Fail until what it wants is there. Undo: nothing is left."""

    def execute(self, mended):
        if not Path(mended).exists():
            raise RuntimeError("what it wants is not there")

    def revert(self): ...


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


@flow("holds", on_failure="hold")
def holds(mended: str, note: str = "hello"):
    """A job that waits for a person when it fails."""
    return linear_flow.Flow("holds").add(Step("first", inject={"undo_gate": ""}), Wants(name="wants"))


@flow("every-kind")
def every_kind(
    title: str,
    count: Annotated[int, Field(ge=1)] = 3,
    day: datetime.date = datetime.date(2026, 1, 31),
    dry: bool = False,
    region: Literal["north", "south"] = "north",
    hosts: tuple[str, ...] = ("a", "b"),
    size: dict[str, int] | None = None,
    password: Secret | None = None,
):
    """Take a parameter of each kind.

    Args:
        title: what it is called.
        hosts: where it goes, a name that is long enough to be broken into two lines on the screen of a phone.
    """
    return linear_flow.Flow("every-kind").add(Hold(name="hold", inject={"gate": ""}))


def hostile(text: str = PROBE, lines: tuple[str, ...] = (PROBE,), more: dict[str, Any] = {ELSEWHERE: PROBE}):  # noqa: B006
    return linear_flow.Flow("hostile").add(Hold(name="hold", inject={"gate": ""}))


hostile.__doc__ = f"{PROBE}\n\nArgs:\n    text: {ELSEWHERE}\n"
flow("hostile")(hostile)
