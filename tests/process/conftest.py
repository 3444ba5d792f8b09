"""Real conductors in processes of their own, and the promise that none of them outlives its test."""

import contextlib
import ctypes
import importlib.util
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest

import ebbtide
import ebbtide.flows.registry
from ebbtide.flows import Registry
from ebbtide.jobs import Job, Poster
from ebbtide.jobs.states import EDGES, FINAL_STATES
from ebbtide.testing import history, wait_until
from tests.model.replay import state_after
from tests.services import servants

HERE = Path(__file__).parent
PACKAGE = Path(ebbtide.__file__).parent
FLOWS = "flows_for_tests"
# What is logged of a run that was told to stop between tasks: that it has heard of it, or how it has ended.
_HEARD = "|".join(["suspending", "interrupted", *(edge.name for edge in EDGES)])
# Longer than anything here takes on a busy machine; reached only by a test that fails.
PATIENCE_SECONDS = 40.0
# Renew, self-fence and lease seconds. Nobody waits for this one to run out: who takes a job over in a test
# was let in.
LONG_LEASE = (100.0, 1000.0, 3600.0)
_SET_CHILD_SUBREAPER = 36

# Makes the terminal at stdin its own, as a shell's child has it, and goes on as the program it is given.
_ON_A_TERMINAL = """
import os, sys
os.login_tty(0)
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


def load_flows(file: Path) -> ModuleType:
    """A module of flows with a `registry` of its own, where they are: other tests list the process's."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.registry = Registry()  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ebbtide.flows.registry, "registered", module.registry)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def flows() -> ModuleType:
    """The module of the test flows."""
    return load_flows(HERE / f"{FLOWS}.py")


@pytest.fixture
def stage(tmp_path: Path, prepared: str, flows: ModuleType) -> Iterator["Stage"]:
    """A store, a folder for effects and gates, and conductors as a test starts them."""
    with open_stage(Stage, tmp_path, prepared, flows) as opened:
        yield opened


@contextlib.contextmanager
def open_stage(kind: "type[S]", folder: Path, database: str, flows: ModuleType) -> "Iterator[S]":
    """A stage; when this ends, nothing of it lives."""
    # What a test kills leaves orphans: here they become ours, so that none can hide from the end of the test.
    _be_subreaper(True)
    with Poster(database, registry=flows.registry) as poster:
        opened = kind(folder, database, poster, flows)
        yield opened
        opened.end()
    _be_subreaper(False)


class ConductorProcess:
    """A conductor that a test has started, and its tree."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, stage: "Stage") -> None:
        self._process = process
        self._log = log
        self._stage = stage
        self.pid = process.pid

    @property
    def log(self) -> str:
        """What it has printed so far, its keeper and runners too."""
        return self._log.read_text()

    @property
    def keeper(self) -> int:
        (pid,) = _children(self.pid)
        return pid

    @property
    def runners(self) -> list[int]:
        return _children(self.keeper)

    @property
    def tree(self) -> list[int]:
        """The conductor and everything below it."""
        return [self.pid, *_descendants(self.pid)]

    def kill(self, number: int = signal.SIGKILL) -> None:
        self._process.send_signal(number)  # nothing happens once it is reaped: its pid may be another's

    def stop(self) -> list[int]:
        """SIGSTOP the conductor alone; returns once it stands still."""
        return self._stop(self.pid)

    def stop_tree(self) -> list[int]:
        """SIGSTOP the conductor, its keeper and its runners; returns them in this order."""
        return self._stop(self.pid, self.keeper, *self.runners)

    def _stop(self, *pids: int) -> list[int]:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self._stage.wait_until(lambda: {_state(pid) for pid in pids} == {"T"}, f"{pids} to stand still")
        return list(pids)

    def drain(self) -> None:
        """SIGTERM, heard."""
        self.kill(signal.SIGTERM)
        self.await_drain()

    def await_drain(self) -> None:
        """Returns once it drains, and every run in it has heard that it is to stop between tasks."""

        def drains() -> bool:
            draining = re.search(r"conductor\.draining(?:: the tasks of (\d+) job)?", self.log)
            if draining is None:
                return False
            # One that ends just then is heard of by its end.
            heard = re.findall(rf"job\.(?:{_HEARD}) ([-0-9a-f]{{36}})", self.log[draining.end() :])
            return len(set(heard)) >= int(draining[1] or 0)

        self._stage.wait_until(lambda: drains() or self.ended, "the drain")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def reap(self) -> None:
        self._process.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        self._stage.wait_until(lambda: self.ended, f"the end of conductor {self.pid}")
        return self._process.returncode

    def end(self) -> int:
        """Drain it; returns its exit code."""
        self.kill(signal.SIGTERM)
        return self.wait()


class Stage:
    def __init__(self, folder: Path, database: str, poster: Poster, flows: ModuleType) -> None:
        self.folder = folder
        self.database = database
        self.poster = poster
        self.conductors: list[ConductorProcess] = []
        self._flows = flows
        self._faults = folder / "faults"
        self._before = set(_descendants(os.getpid()))
        self._numbers = itertools.count(1)

    # Conductors.

    def environment(
        self, *, lease: tuple[float, float, float] = LONG_LEASE, **options: Any
    ) -> dict[str, str]:
        """What a process needs to find package, flows and store, and these options."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")}
        # The package as this process has it: installed, or a checkout.
        path = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")]), str(PACKAGE.parent)]
        options = {"database": self.database, "flow_modules": FLOWS} | options
        options |= dict(zip(("renew_seconds", "self_fence_seconds", "lease_seconds"), lease, strict=True))
        told = {f"EBBTIDE_{name.upper()}": str(value) for name, value in options.items()}
        return kept | {"PYTHONPATH": os.pathsep.join(path)} | told

    def conductor(
        self,
        *,
        wait: bool = True,
        terminal: int | None = None,
        lease: tuple[float, float, float] = LONG_LEASE,
        faults: Sequence[str] = (),
        inside: Sequence[str] = (),
        **options: Any,
    ) -> ConductorProcess:
        """Start a conductor; returns once it claims jobs.

        Args:
            inside: what its command begins with, to run it on another host.
            terminal: descriptor of the terminal that it is to have as its own.
            lease: renew, self-fence and lease seconds.
            faults: what may be armed in it, its keeper and its runners; see `arm`.
        """
        # What fails to undo is parked at once, unless a test wants it tried again.
        options = {"revert_retries": 0} | options
        if faults:
            options |= {"test_faults": ",".join(faults), "test_faults_folder": self._faults}
            self._faults.mkdir(exist_ok=True)
        log = self.folder / f"conductor-{next(self._numbers)}.log"
        command = [*inside, sys.executable, "-m", "ebbtide", "conductor"]
        if terminal is not None:
            command = [sys.executable, "-c", _ON_A_TERMINAL, str(log), *command]
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command,
                env=self.environment(lease=lease, **options),
                cwd=self.folder,
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=out,
                stderr=out,
            )
        started = ConductorProcess(process, log, self)
        self.conductors.append(started)
        if wait:
            self.wait_until(
                lambda: "conductor.ready" in started.log or started.ended, "a conductor to be ready"
            )
            assert not started.ended, started.log
        return started

    def arm(self, fault: str) -> None:
        """From now on this fault, of those that conductors were started with, happens once."""
        (self._faults / fault).touch()

    def happened(self, fault: str) -> bool:
        return not (self._faults / fault).exists()

    # Jobs.

    def post(self, *steps: str, order: str = "linear") -> Job:
        """Post a job of these steps, each a name or ``name:action``."""
        return self.poster.post("steps", {"folder": str(self.folder), "steps": list(steps), "order": order})

    def open(self, *tasks: str, verb: str = "pass") -> None:
        """Let these tasks go on; ``verb="undo"``: their undos. ``name-2``: under epoch 2 only."""
        for task in tasks:
            (self.folder / f"{verb}-{task}").touch()

    def ended(self, job: Job) -> Job:
        """The job once it is final or parked."""
        rests = {*FINAL_STATES, "parked"}
        self.wait_until(lambda: self.poster.show(job.id).state in rests, f"the end of job {job.id}")
        return self.poster.show(job.id)

    def names(self, job: Job) -> list[str]:
        """The names of the entries of the job's history."""
        return [entry.name for entry in self.poster.entries(job.id)]

    def entries(self, job: Job, name: str) -> list[Any]:
        return [entry for entry in self.poster.entries(job.id) if entry.name == name]

    def assert_history_replays(self, job: Job) -> None:
        """P13: each entry is a step of the model, and the last one leads to where the job is."""
        assert state_after(self.poster.entries(job.id)) == job.state

    # Effects.

    def effects(self, job: Job | None = None, *whats: str, task: str | None = None) -> list[dict[str, Any]]:
        """The lines of the effect log: of one job, of some kinds, of one task."""
        return [
            line
            for line in self._flows.effects(str(self.folder))
            if (job is None or line["job"] == job.id)
            and (not whats or line["what"] in whats)
            and (task is None or line["task"] == task)
        ]

    def told(self, job: Job, *whats: str) -> list[str]:
        """The same as words, such as ``begin a``."""
        return [f"{line['what']} {line['task']}" for line in self.effects(job, *whats)]

    def await_effect(self, job: Job, what: str, task: str, count: int = 1) -> dict[str, Any]:
        """The `count`th line of its kind, once it is there."""
        self.wait_until(
            lambda: len(self.effects(job, what, task=task)) >= count, f"{what} {task}, number {count}"
        )
        return self.effects(job, what, task=task)[count - 1]

    # Processes.

    def state(self, pid: int) -> str:
        """The kernel's letter for what its first thread does, such as T for stopped."""
        return _state(pid)

    def alive(self, pids: list[int]) -> list[int]:
        """Those that have not ended."""
        return [pid for pid in pids if _alive(pid)]

    def await_end_of(self, pids: list[int]) -> None:
        self.wait_until(lambda: not self.alive(pids), f"the end of processes {pids}")

    def left(self) -> list[int]:
        """Whatever lives below this process now: conductors, and what has been orphaned."""
        return sorted(set(_descendants(os.getpid())) - self._before)

    def end(self) -> None:
        """End the conductors of this test with their trees, and what has been orphaned and so become ours."""
        while left := self.left():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for conductor in self.conductors:
            conductor.reap()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):  # the orphans
                pass

    def go_on(self, *stopped: int) -> None:
        """Let processes go on that were stopped, in their order."""
        for pid in stopped:
            # The first to go on may find the lease over, and have ended the others by now.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def wait_until(self, predicate: Callable[[], object], what: str) -> None:
        """Wait until `predicate` holds. Fails with all that is known when patience is over."""
        wait_until(predicate, what, seconds=PATIENCE_SECONDS, tell=self.report)

    @contextlib.contextmanager
    def explained(self, job: Job) -> Iterator[None]:
        """Whatever is asserted in here of this job is told with its history when it does not hold."""
        try:
            yield
        except AssertionError as error:
            error.add_note(self.report(job))
            raise

    def report(self, job: Job | None = None) -> str:
        """A job, or all, with history and effects, and what the conductors have printed."""
        lines = [history(self.poster, job)]
        lines += [f"effect: {line}" for line in self.effects(job)[-60:]]
        for conductor in self.conductors:
            state = "ended" if conductor.ended else f"tree {conductor.tree}"
            told = [line for line in conductor.log.splitlines() if job is None or job.id in line]
            lines += [f"conductor {conductor.pid} {state}", *told[-60:]]
        return "\n".join(lines)


S = TypeVar("S", bound=Stage)


def _state(pid: int) -> str:
    """The kernel's letter for the state of a process, such as T for stopped; X when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _alive(pid: int) -> bool:
    """Whether any thread of the process goes on: its first one may have ended before the others."""
    try:
        return _state(pid) not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children(pid: int) -> list[int]:
    """The living children of a process, the oldest first. What serves the test session is nobody's child."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.update(map(int, (thread / "children").read_text().split()))
    return [child for child in sorted(found) if _alive(child) and not servants.is_one(child)]


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    waiting = _children(pid)
    while waiting:
        found.append(waiting.pop())
        waiting += _children(found[-1])
    return found


def _be_subreaper(wanted: bool) -> None:
    if ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
        raise OSError("this process cannot adopt orphans")
