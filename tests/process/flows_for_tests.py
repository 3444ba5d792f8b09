"""Flows whose tasks tell what they do in a file outside the database, and wait where a test wants them to.

A flow is posted with a list of steps, each a name or ``name:action``, maybe with ``@patient`` behind it, and
with a folder of its own that holds the effect log and the gates. What waits goes on once the file of its gate
exists.
"""

import ctypes
import io
import json
import logging
import mmap
import multiprocessing
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from taskflow import retry
from taskflow.flow import Flow
from taskflow.patterns import graph_flow, linear_flow, unordered_flow

from ebbtide.flows import Secret, flow
from ebbtide.tasks import INTERRUPTED, CancelableTask, Cancelled, CommandTask

STATUS = 7  # of a runner that a task lets exit
PATIENT = "@patient"  # ends the text of a step that has a long grace of its own
HASTY = "@hasty"  # and of one that has next to no time


class Step(CancelableTask):
    """Tells that it begins, does its action, tells that it ended. The undo tells what it was given."""

    def __init__(self, text: str) -> None:
        name, _, self.action = text.removesuffix(PATIENT).removesuffix(HASTY).partition(":")
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
        living = [pid for pid in spawned(folder, self.job.id) if alive(pid)]
        self.tell(folder, "undo", result=given, saved=self.saved, living=living)
        if "broken" in self.action and not self.is_open(folder, "repaired"):
            raise OSError("no such luck")
        if "deadly" in self.action and not self.is_open(folder, "repaired"):
            os._exit(STATUS)
        if "hanging" in self.action and not self.is_open(folder, "repaired"):
            threading.Event().wait(1e6)
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


class PatientStep(Step):
    """Has a grace that no test outlasts."""

    grace_seconds = 3600.0


class HastyStep(Step):
    """Is out of time at once."""

    limit_seconds = 0.05


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


def _spin(step: Step, folder: str) -> None:
    step.tell(folder, "waiting")
    while True:
        pass


def _sleep(step: Step, folder: str) -> None:
    step.tell(folder, "waiting")
    time.sleep(1e6)  # noqa: TID251  # the very thing that nobody should do


def _hold(step: Step, folder: str) -> None:
    """Wait for the gate, then keep the interpreter to itself in a C call."""
    _deaf(step, folder)
    step.tell(folder, "holding")
    ctypes.PyDLL(None).sleep(10**6)


def _match(step: Step, folder: str) -> None:
    """A regular expression that takes for ever, and the interpreter with it."""
    step.tell(folder, "waiting")
    re.match("(a+)+$", "a" * 64 + "b")


def _swallow(step: Step, folder: str) -> None:
    step.tell(folder, "waiting")
    while True:
        try:
            step.sleep(0.01)
        except Cancelled:
            threading.Event().wait(0.01)


def _stubborn(step: Step, folder: str) -> None:
    """Hear neither a cancel nor SIGTERM, and start what does not either: in another session, an orphan."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    deaf = ["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"]
    child = subprocess.Popen(deaf, stdout=subprocess.PIPE, text=True, start_new_session=True)
    parent = subprocess.Popen(["setsid", "--fork", *deaf], stdout=subprocess.PIPE, text=True)
    pids = [int(each.stdout.readline()) for each in (child, parent) if each.stdout is not None]
    parent.wait()
    step.tell(folder, "spawned", pids=pids)
    _deaf(step, folder)


def _polite(step: Step, folder: str) -> None:
    """Wait, without a checkpoint, for a program that ends in order when it is told to."""
    script = f"trap 'touch {folder}/farewell; exit' TERM; echo; while :; do sleep 0.1; done"
    program = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert program.stdout is not None
    program.stdout.readline()
    step.tell(folder, "waiting")
    program.wait()


def _twin(step: Step, folder: str) -> None:
    """Fork by hand once cancelled; the child leaves the body, the parent goes on and hears no cancel."""
    step.tell(folder, "waiting")
    step.cancel.wait(3600)
    if os.fork() == 0:
        raise ValueError("of the child")
    _deaf(step, folder)


def _mute(step: Step, folder: str) -> None:
    """Close the runner's channel under it, in a way that gives its other threads no time to notice."""
    sys.setswitchinterval(3600)
    libc = ctypes.PyDLL(None)
    sockets = [number for number in map(int, os.listdir("/proc/self/fd")) if _is_socket(number)]
    step.tell(folder, "waiting")
    for number in sockets:
        libc.shutdown(number, 2)
    libc.sleep(10**6)


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:  # it was the listing's own
        return False


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


def _exit_twice(step: Step, folder: str) -> None:
    """Take the runner along twice; then hear no cancel."""
    if begins(folder, step.job.id, step.name) <= 2:
        os._exit(STATUS)
    _deaf(step, folder)


def _gorge(step: Step, folder: str) -> None:
    """Ask for more memory than any test allows."""
    bytearray(1 << 34)


def _crave(step: Step, folder: str) -> None:
    """Ask for more memory than a test that limits it allows, and use none of it."""
    mmap.mmap(-1, 1 << 31, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


def _burst(step: Step, folder: str) -> None:
    """What a library does that gets no memory."""
    try:
        bytearray(1 << 34)
    except MemoryError:
        os.abort()


def _linger(step: Step, folder: str) -> None:
    """Leaves a thread behind that never ends."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def _on_cancel(die: Callable[[Step, str], None]) -> Callable[[Step, str], None]:
    """Wait for a cancel, and then, instead of heeding it, do that."""

    def wait(step: Step, folder: str) -> None:
        step.tell(folder, "waiting")
        step.cancel.wait(3600)
        die(step, folder)

    return wait


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
    "spin": _spin,
    "sleep": _sleep,
    "hold": _hold,
    "match": _match,
    "swallow": _swallow,
    "stubborn": _stubborn,
    "polite": _polite,
    "twin": _twin,
    "mute": _mute,
    "hanging-undo": lambda step, folder: None,
    "exit-twice": _exit_twice,
    "gorge": _gorge,
    "crave": _crave,
    "burst": _burst,
    "cancel-exit": _on_cancel(_exit),
    "cancel-kill": _on_cancel(_kill),
    "cancel-segfault": _on_cancel(_segfault),
    "cancel-burst": _on_cancel(_burst),
    "litter": _litter,
    "linger": _linger,
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
    kinds = {PATIENT: PatientStep, HASTY: HastyStep}
    return pattern("steps").add(*[kinds.get("@" + text.rpartition("@")[2], Step)(text) for text in steps])


class DeafRetry(retry.Retry):
    """Waits, before its answer, for what never comes."""

    def execute(self, history: Any, folder: str) -> None: ...

    def on_failure(self, history: Any, folder: str) -> str:
        Path(folder, "asked").touch()
        threading.Event().wait()
        return str(retry.RETRY)

    def revert(self, history: Any, folder: str, flow_failures: Any) -> None:
        while Path(folder, "deaf").exists():
            threading.Event().wait(0.01)


@flow("deaf-decider")
def deaf_decider(folder: str) -> Flow:
    """Between its tasks it is asked what never gets an answer."""
    a, b = Step("a"), Step("b")

    def decide(history: Any) -> bool:
        Path(folder, "asked").touch()
        threading.Event().wait()
        return True

    flow = graph_flow.Flow("decided").add(a, b)
    flow.link(a, b, decider=decide)
    return flow


@flow("unbuilt")
def unbuilt(folder: str) -> Flow:
    """Cannot be built while there is a file of that name in the folder."""
    while Path(folder, "unbuilt").exists():
        threading.Event().wait(0.01)
    return linear_flow.Flow("unbuilt").add(Step("a"), Step("b:wait"))


@flow("deaf-retry")
def deaf_retry(folder: str) -> Flow:
    return linear_flow.Flow("retried", retry=DeafRetry("retry")).add(Step("a"), Step("b:fail"))


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


class Program(CommandTask):
    """Runs Python."""

    kill_after_seconds = 0.05

    def command(self, script: str, output: str) -> list[str]:
        return [sys.executable, "-c", script]

    def outputs(self, output: str) -> list[str]:
        return [output]


@flow("program")
def program(script: str, output: str) -> Flow:
    return linear_flow.Flow("program").add(Program("program"))


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
