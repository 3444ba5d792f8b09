"""What all servers of tests have in common: a process in a folder of its own, which a test may fell."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.services import servants

# Longer than anything here takes on a busy machine; reached only when something is broken.
PATIENCE_SECONDS = 60.0


class Server:
    """One server. It stands still until it is started, and may be restarted as often as wanted.

    Args:
        folder: where everything is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False  # by SIGSTOP
        self._own_ends: list[int] = []  # the status of each end that nobody here has asked for

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process; those below it are its own affair."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def log_size(self) -> int:
        """In bytes; for `log_since`."""
        return (self.folder / "log").stat().st_size

    def log_since(self, size: int) -> str:
        """What was logged after it had that size."""
        with open(self.folder / "log", "rb") as log:
            log.seek(size)
            return log.read().decode(errors="replace")

    def stand_still(self) -> None:
        """SIGSTOP: its connections stay and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._stopped = True

    def go_on(self) -> None:
        """The end of `stand_still`."""
        if self._process is not None and self._stopped:
            self._process.send_signal(signal.SIGCONT)
        self._stopped = False

    def _launch(self, command: Sequence[str], **how: Any) -> None:
        """Start its process, with nothing of the outside about it."""
        if self.running:
            raise RuntimeError("the server runs already")
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                **how,
            )
        servants.add(self._process.pid)

    def _await_ready(self, trouble: Callable[[], object]) -> None:
        """Wait until `trouble` tells of none that keeps it from serving."""
        process = self._process
        assert process is not None
        give_up = time.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while (told := trouble()) is not None:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{type(self).__name__} does not start: {told}\n{self.log[-4000:]}")
            pause.wait(0.01)

    def _end(self, number: int) -> None:
        """Send the signal; returns once it has ended, and nothing happens when it has already."""
        if self._process is None:
            return
        if (status := self._process.poll()) is not None:
            self._own_ends.append(status)
        self.go_on()
        self._process.send_signal(number)
        self._process.wait(PATIENCE_SECONDS)
        servants.remove(self._process.pid)
        self._process = None


@contextlib.contextmanager
def folder_for(what: str, user: str | None = None) -> Iterator[Path]:
    """A folder for a server, gone afterwards. Not below pytest's own, which other users may not enter."""
    folder = Path(tempfile.mkdtemp(prefix=f"ebbtide-{what}-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder)
