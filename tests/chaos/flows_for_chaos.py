"""The flow that the jobs of the chaos are made of: its tasks make files, and tell all they do in a log.

Files and log are outside the ledger. The log is one file, to which whole lines are appended: their order is
the order in which things happened, whichever processes told them.
"""

import functools
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from taskflow import retry
from taskflow.flow import Flow
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows import flow
from ebbtide.jobs.signals import Signal
from ebbtide.jobs.signals.postgresql import NotifySignal
from ebbtide.jobs.signals.sqlite import DataVersionSignal
from ebbtide.tasks import CancelableTask

FLOW = "pieces"
LOG = "effects"
# The folder of the files, maybe a small disk; below the folder that the jobs are given.
DISK = "disk"
MADE = "made"
#: Names files, with a colon between them: while one of them exists, this process hears no signal.
DEAF_VARIABLE = "EBBTIDE_TEST_DEAF"


class Piece(CancelableTask):
    """Makes a file, then does what its kind says. The undo takes the file away.

    Args:
        text: a name, or ``name:kind``.
    """

    def __init__(self, text: str) -> None:
        name, _, self._kind = text.partition(":")
        super().__init__(name=name, provides=name)

    def execute(self, folder: str) -> int:
        self._tell(folder, "begin")
        self._file(folder).write_bytes(b"made" * 1024)
        _KINDS[self._kind](self, folder)
        self._tell(folder, "end")
        return self.job.epoch

    def revert(self, result: Any, folder: str) -> None:
        self._tell(folder, "undo")
        if self._kind == "stuck" and not self._is_there(folder, f"repaired-{self.job.id}"):
            raise OSError("this cannot be undone before it is repaired")
        if self._kind.endswith("slow-undo"):
            while not self._is_there(folder, f"undo-{self.name}"):
                self.cancel.wait(0.01)
        self._file(folder).unlink(missing_ok=True)
        self._tell(folder, "undone")

    def _file(self, folder: str) -> Path:
        return Path(folder, DISK, MADE, f"{self.job.id}.{self.name}")

    def _is_there(self, folder: str, name: str) -> bool:
        return Path(folder, name).exists()

    def _tell(self, folder: str, what: str) -> None:
        """One line. Its time is from before it is written, as a lower bound of when that happened."""
        job = {"job": self.job.id, "attempt": self.job.attempt, "epoch": self.job.epoch}
        at = time.monotonic()
        line = {"what": what, "task": self.name, **job, "pid": os.getpid(), "at": at}
        append(Path(folder, LOG), line)

    # What it does, by its kind.

    def _nothing(self, folder: str) -> None: ...

    def _labour(self, folder: str) -> None:
        """A fifth of a second; how far it is is saved."""
        for number in range((self.saved or {"done": 0})["done"], 10):
            self.sleep(0.02)
            self.checkpoint({"done": number + 1})

    def _pause(self, folder: str) -> None:
        """As long, with nothing saved."""
        for _ in range(10):
            self.sleep(0.02)

    def _fail(self, folder: str) -> None:
        raise ValueError("this one fails")

    def _shaky(self, folder: str) -> None:
        """Fail in the first round of an attempt."""
        mark = Path(folder, f"shaken-{self.job.id}-{self.job.attempt}")
        if not mark.exists():
            mark.touch()
            raise ValueError("this one fails the first time")

    def _deaf(self, folder: str) -> None:
        """Wait for a gate, everybody's or that of this epoch, and hear no cancel."""
        gate = f"pass-{self.name}"
        while not (self._is_there(folder, gate) or self._is_there(folder, f"{gate}-{self.job.epoch}")):
            time.sleep(0.01)  # noqa: TID251  # that it cannot be cancelled is what it is for


_KINDS: dict[str, Callable[[Piece, str], None]] = {
    "": Piece._nothing,
    "labour": Piece._labour,
    "pause": Piece._pause,
    "fail": Piece._fail,
    "shaky": Piece._shaky,
    "stuck": Piece._nothing,
    "slow-undo": Piece._nothing,
    "deaf": Piece._deaf,
}


@flow(FLOW)
def pieces(
    folder: str, steps: list[str], order: Literal["linear", "unordered"] = "linear", rounds: int = 1
) -> Flow:
    controller = retry.Times(rounds, name="rounds") if rounds > 1 else None
    pattern = {"linear": linear_flow.Flow, "unordered": unordered_flow.Flow}[order]
    return pattern(FLOW, retry=controller).add(*map(Piece, steps))


def append(file: Path, line: dict[str, Any]) -> None:
    """Append one line, written at once: lines of several processes do not mix."""
    log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, json.dumps(line).encode() + b"\n")
    finally:
        os.close(log)


def effects(folder: str) -> list[dict[str, Any]]:
    """All lines of the log."""
    try:
        text = Path(folder, LOG).read_text()
    except FileNotFoundError:
        return []
    # A reader may see the first part of a line that is just being written.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def made(folder: str) -> set[tuple[str, str]]:
    """The files that are there, as job and task."""
    found = (name.partition(".") for name in os.listdir(Path(folder, DISK, MADE)))
    return {(job, task) for job, _, task in found}


def _be_deaf_while(switches: list[str]) -> None:
    """Hints are dropped while one of these files exists: the signal is read, and nobody is told."""

    def dropping(real: Callable[[Signal], bool]) -> Callable[[Signal], bool]:
        @functools.wraps(real)
        def changed(signal: Signal) -> bool:
            return real(signal) and not any(map(os.path.exists, switches))

        return changed

    kinds: tuple[Any, ...] = (DataVersionSignal, NotifySignal)
    for kind in kinds:
        kind.changed = dropping(kind.changed)


if DEAF_VARIABLE in os.environ:
    _be_deaf_while(os.environ[DEAF_VARIABLE].split(":"))
if "EBBTIDE_TEST_PLANTED" in os.environ:
    # A conductor, a keeper or a runner: the tests are no package there.
    _spec = importlib.util.spec_from_file_location("planted", Path(__file__).parents[1] / "planted.py")
    assert _spec is not None and _spec.loader is not None
    _planted = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_planted)
    _planted.plant_from_environment()
