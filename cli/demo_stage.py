"""Where the demo takes place: a folder of its own, a conductor of its own, and a process that cancels.

Nothing of it outlives the demo. The conductor runs in a session of its own, so that Ctrl-C reaches the demo
alone, which then ends the conductor by its process id and removes the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

FLOW_MODULE: Final = "ebbtide.flows.file_processing"
RUNNERS: Final = 2

# How long the conductor may take to end: after being asked, and after being asked to hurry.
DRAIN_SECONDS: Final = 10.0
HURRY_SECONDS: Final = 5.0
LOG_TAIL: Final = 5

# Each of the three jobs publishes a copy of the source; beside them the store, and what is left free.
COPIES: Final = 3
MARGIN_BYTES: Final = 16 * 1024 * 1024
# A disk with less than this is full to SQLite, which appends pages; so long nothing may move there.
FULL_BYTES: Final = 256 * 1024
STALL_SECONDS: Final = 5.0


class DemoFailed(Exception):
    """The demo cannot show what it is there to show. The message says why, in one line."""


class Stall:
    """Ends the demo when its disk is full and its jobs stand still: a job waits for space, without end."""

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._now = now
        self._since = now()
        self._last: object = None

    def look(self, state: object) -> None:
        """Raise DemoFailed once `state` has been the same for STALL_SECONDS, on a disk that is full."""
        if state != self._last or shutil.disk_usage(self._folder).free > FULL_BYTES:
            self._last = state
            self._since = self._now()
        elif self._now() - self._since >= STALL_SECONDS:
            raise DemoFailed(f"the disk of {self._folder.parent} is full: make room there, or set TMPDIR")


def require_room(source_bytes: int) -> None:
    """Raise DemoFailed unless the temporary folder has room for what the demo writes."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise DemoFailed(f"no temporary folder can be written: {error.strerror}; set TMPDIR") from error
    needed, free = COPIES * source_bytes + MARGIN_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise DemoFailed(
            f"the demo needs {needed / 1e6:,.1f} MB in {folder}, where {free / 1e6:,.1f} MB are free: "
            "name a smaller folder, make room, or set TMPDIR"
        )


class Stage:
    """The folder of one demo with its store, and the processes that work on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = f"sqlite:///{folder / 'ebbtide.db'}"

    def destination(self, name: str) -> Path:
        """A folder to publish into. What a job leaves beside it is found as well: the parent is its own."""
        parent = self.folder / name
        parent.mkdir(exist_ok=True)
        return parent / "published"

    def start(self, *words: str, **streams: Any) -> subprocess.Popen[str]:
        """Run `ebbtide` with these words on this demo's store, in a process and a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "ebbtide", "--database", self.database, *words],
            cwd=self.folder,
            env=_environment(),
            start_new_session=True,
            text=True,
            **streams,
        )

    @contextlib.contextmanager
    def conductor(self) -> Iterator[Conductor]:
        """A conductor, started; ended when the block is left, quickly so by an exception."""
        conductor = Conductor(self)
        try:
            yield conductor
        except BaseException:
            conductor.stop(hurry=True)
            raise
        conductor.stop()


class Conductor:
    """The conductor's process. Its log goes into a pipe: its end says that its runners have ended, too."""

    def __init__(self, stage: Stage) -> None:
        self._tail: deque[str] = deque(maxlen=LOG_TAIL)
        self._process = stage.start(
            "--flow-module",
            FLOW_MODULE,
            "conductor",
            "--runners",
            str(RUNNERS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, name="demo-conductor-log", daemon=True)
        self._reader.start()

    def check(self) -> None:
        """Raise DemoFailed if it has ended by itself."""
        code = self._process.poll()
        if code is not None:
            self._reader.join(HURRY_SECONDS)
            if code < 0:
                raise DemoFailed(f"the conductor was ended by signal {-code}")
            last = self._tail[-1] if self._tail else "it logged nothing"
            raise DemoFailed(f"the conductor ended with code {code}: {last}")

    def stop(self, *, hurry: bool = False) -> None:
        """End it and wait until it and its runners are gone. Safe to call twice."""
        if not hurry:
            self._ask(signal.SIGTERM)
            if self._ended(DRAIN_SECONDS):
                return
        # Two signals of one number may arrive as one.
        self._ask(signal.SIGTERM)
        self._ask(signal.SIGINT)
        if not self._ended(HURRY_SECONDS):
            self._ask(signal.SIGKILL)
            self._ended(HURRY_SECONDS)

    def _ask(self, number: signal.Signals) -> None:
        # Popen signals nothing once the process is reaped: the id may be somebody else's by then.
        self._process.send_signal(number)

    def _ended(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(seconds)
        return not self._reader.is_alive()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._tail.append(line.strip())


class Canceller:
    """Another process: `ebbtide cancel -`, which has loaded all it needs and waits for the id on stdin."""

    def __init__(self, stage: Stage, reason: str) -> None:
        self._process = stage.start(
            "--json",
            "cancel",
            "-",
            "--reason",
            reason,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def cancel(self, job_id: str) -> str:
        """Have the job cancelled; returns the answer: "accepted", or "refused" if it is too late."""
        _stream(self._process.stdin).write(f"{job_id}\n")
        _stream(self._process.stdin).flush()
        line = _stream(self._process.stdout).readline()
        if not line:
            raise DemoFailed(f"the process that cancels ended with code {self._process.wait()}")
        return str(json.loads(line)["answer"])

    def __enter__(self) -> Canceller:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            _stream(self._process.stdin).close()
        try:
            self._process.wait(HURRY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _stream(self._process.stdout).close()


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A stage in a new temporary folder, which is removed however the block is left, SIGTERM included."""
    handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    folder = Path(tempfile.mkdtemp(prefix="ebbtide-demo-")).resolve()
    try:
        yield Stage(folder)
    finally:
        # A second Ctrl-C must not stop what removes the rest.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        _remove(folder)
        for number, handler in (*handlers.items(), (signal.SIGINT, interrupt)):
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _remove(folder: Path) -> None:
    # A runner that was just killed may have made one more file while the folder was being emptied.
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _environment() -> dict[str, str]:
    """This process's environment without the user's options, and with this very Ebbtide on the path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")}
    spec = find_spec("ebbtide")
    assert spec is not None and spec.origin is not None
    home = str(Path(spec.origin).parents[1])
    # Installed packages are found anyway; put first, their folder might hide modules of Python itself.
    if home not in [*site.getsitepackages(), site.getusersitepackages()]:
        paths = [home, *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment
