"""Flows whose tasks tell what they do in a file outside the database, and wait where a test wants them to.

A flow is posted with a list of steps, each a name or ``name:action``, and with a folder of its own that
holds the effect log and the gates. What waits goes on once the file of its gate exists.
"""

import ctypes
import io
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from taskflow.flow import Flow
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows import Secret, flow
from ebbtide.tasks import INTERRUPTED, CancelableTask

STATUS = 7  # of a runner that a task lets exit


class Step(CancelableTask):
    """Tells that it begins, does its action, tells that it ended. The undo tells what it was given."""

    def __init__(self, text: str) -> None:
        name, _, self.action = text.partition(":")
        super().__init__(name=name, provides=name)

    def execute(self, folder: str) -> dict[str, Any]:
        living = [pid for pid in spawned(folder, self.job.id) if alive(pid)]
        self.tell(folder, "begin", interrupted=self.interrupted, saved=self.saved, living=living)
        verb, _, number = self.action.partition("*")
        if verb and (not number or begins(folder, self.job.id, self.name) <= int(number)):
            _ACTIONS[verb](self, folder)
        self.tell(folder, "end")
        return {"made": f"{self.name} at epoch {self.job.epoch}"}

    def revert(self, result: Any, folder: str) -> None:
        given = "INTERRUPTED" if result is INTERRUPTED else result
        self.tell(folder, "undo", result=given, saved=self.saved)
        if "broken" in self.action and not self.is_open(folder, "repaired"):
            raise OSError("no such luck")
        if "deadly" in self.action and not self.is_open(folder, "repaired"):
            os._exit(STATUS)
        if self.action.endswith("slow-undo"):
            while not self.is_open(folder, "undo"):
                threading.Event().wait(0.01)
        self.tell(folder, "undone")

    def tell(self, folder: str, what: str, **facts: Any) -> None:
        """One line, written at once: lines of several processes do not mix."""
        who = {"task": self.name, "job": self.job.id, "attempt": self.job.attempt, "epoch": self.job.epoch}
        line = json.dumps({"what": what, **who, "pid": os.getpid(), **facts}) + "\n"
        log = os.open(os.path.join(folder, "effects"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(log, line.encode())
        finally:
            os.close(log)

    def is_open(self, folder: str, verb: str = "pass") -> bool:
        """Whether a test lets this task go on: everywhere, or under this epoch."""
        gate = os.path.join(folder, f"{verb}-{self.name}")
        return os.path.exists(gate) or os.path.exists(f"{gate}-{self.job.epoch}")


def _wait(step: Step, folder: str) -> None:
    """Wait for the gate at checkpoints, having saved how often this has been begun."""
    step.checkpoint({"times": (step.saved or {"times": 0})["times"] + 1})
    step.tell(folder, "waiting")
    while not step.is_open(folder):
        step.sleep(0.01)


def _deaf(step: Step, folder: str) -> None:
    """Wait for the gate and hear no cancel."""
    step.tell(folder, "waiting")
    while not step.is_open(folder):
        threading.Event().wait(0.01)


def _spawn(step: Step, folder: str) -> None:
    """Start what should not survive this task: a child in a session of its own, an orphan, and wait."""
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    script = "setsid sleep 3600 >/dev/null 2>&1 & echo $!"
    orphan = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    step.tell(folder, "spawned", pids=[child.pid, int(orphan.stdout)])
    _deaf(step, folder)


def _litter(step: Step, folder: str) -> None:
    """Leave an orphan behind that ends by itself."""
    subprocess.run(["sh", "-c", "true &"], check=True)


def _fork(step: Step, folder: str) -> None:
    """Fork a process that waits for ever, and end it by SIGTERM as the library does."""
    process = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
    process.start()
    process.terminate()
    process.join()


def _exit(step: Step, folder: str) -> None:
    os._exit(STATUS)


def _kill(step: Step, folder: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def _segfault(step: Step, folder: str) -> None:
    ctypes.string_at(0)


def _sysexit(step: Step, folder: str) -> None:
    sys.exit(STATUS)


def _fail(step: Step, folder: str) -> None:
    raise ValueError("no such luck")


def _work(step: Step, folder: str) -> None:
    """A short task with checkpoints."""
    for _ in range(5):
        step.sleep(0.002)


def _labour(step: Step, folder: str) -> None:
    """A longer one that saves how far it is."""
    for number in range((step.saved or {"done": 0})["done"], 10):
        step.sleep(0.01)
        step.checkpoint({"done": number + 1})


_ACTIONS: dict[str, Callable[[Step, str], None]] = {
    "wait": _wait,
    "deaf": _deaf,
    "spawn": _spawn,
    "litter": _litter,
    "fork": _fork,
    "exit": _exit,
    "kill": _kill,
    "segfault": _segfault,
    "sysexit": _sysexit,
    "fail": _fail,
    "work": _work,
    "labour": _labour,
    "slow-undo": lambda step, folder: None,
    "wait+slow-undo": _wait,
    "broken-undo": lambda step, folder: None,
    "broken+slow-undo": lambda step, folder: None,
    "deadly-undo": lambda step, folder: None,
}


@flow("steps")
def steps(folder: str, steps: list[str], order: Literal["linear", "unordered"] = "linear") -> Flow:
    pattern = {"linear": linear_flow.Flow, "unordered": unordered_flow.Flow}[order]
    return pattern("steps").add(*[Step(text) for text in steps])


class Indiscreet(CancelableTask):
    """Does with its secret what it should not."""

    def execute(self, token: str, actions: list[str]) -> Any:
        for action in actions:
            returned = getattr(self, f"_{action}")(token)
        return returned

    def _log(self, token: str) -> None:
        logging.getLogger("indiscreet").warning("logged %s", token)

    def _print(self, token: str) -> None:
        print("printed", token)
        for part in ("in parts ", token[:5], token[5:], "\n"):
            print(part, end="", file=sys.stderr)
        sys.stdout.buffer.write(f"as bytes {token}\n".encode())
        sys.stdout.flush()

    def _thread(self, token: str) -> None:
        """Nothing of this is captured: the conductor's own output is where it goes."""
        if not isinstance(sys.stdout, io.TextIOWrapper):  # as in a runner
            self._run(lambda: print("passed on", token, file=sys.stderr))
            self._run(lambda: dict[str, str]()[token])
        self._run(lambda: logging.getLogger("indiscreet").warning("in a thread: %s", token))

    def _run(self, target: Callable[[], object]) -> None:
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()

    def _report(self, token: str) -> None:
        self.report(0.5, f"reported {token}")
        self.checkpoint({"nothing": "of it"})

    def _raise(self, token: str) -> None:
        raise ValueError(f"{token} is refused")

    def _return(self, token: str) -> Any:
        return {"token": token}

    def _save(self, token: str) -> None:
        self.checkpoint([token])


@flow("secretive")
def secretive(folder: str, actions: list[str], token: Secret) -> Flow:
    return linear_flow.Flow("secretive").add(Indiscreet("indiscreet"))


def effects(folder: str) -> list[dict[str, Any]]:
    """All lines of the effect log."""
    try:
        text = Path(folder, "effects").read_text()
    except FileNotFoundError:
        return []
    # A reader may see the first part of a line that is just being written.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def spawned(folder: str, job: str) -> list[int]:
    """The processes that tasks of the job have started."""
    return [pid for line in effects(folder) if line["job"] == job for pid in line.get("pids", ())]


def begins(folder: str, job: str, task: str) -> int:
    """How often the task has begun."""
    return sum((line["what"], line["job"], line["task"]) == ("begin", job, task) for line in effects(folder))


def alive(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
