"""The flows that are measured. Their tasks do nothing, or tell when they were where."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from typing import ClassVar

from taskflow.flow import Flow
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows import flow
from ebbtide.tasks import AsyncTask, CancelableTask

__all__ = ["Nothing"]


class Nothing(CancelableTask):
    """Does nothing; there is nothing to undo."""

    def execute(self) -> None:
        pass


class Starts(CancelableTask):
    """Tells when it has begun; there is nothing to undo."""

    def execute(self, listener: str) -> None:
        _tell(listener, "began")


class WaitsForCancel(CancelableTask):
    """Tells when it has begun and when its event woke it; there is nothing to undo."""

    def execute(self, listener: str) -> None:
        _tell(listener, "began")
        self.cancel.wait(60.0)
        _tell(listener, "woke")
        self.checkpoint()


class Deaf(CancelableTask):
    """Hears neither a cancel nor SIGTERM, nor does the program that it starts in a session of its own."""

    def execute(self, listener: str) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        script = "trap '' TERM; echo; while :; do sleep 60; done"
        program = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
        assert program.stdout is not None
        program.stdout.readline()
        _tell(listener, "began")
        threading.Event().wait()


class Waits(AsyncTask):
    """One of many that wait. The last that waits tells, and the last that has cleaned up; nothing to undo."""

    count: ClassVar[Counter[str]] = Counter()  # of this process: moments that tasks of this job came to

    async def execute(self, listener: str, tasks: int) -> None:
        self._arrive("waiting", listener, tasks)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self._arrive("cleaned", listener, tasks)

    def _arrive(self, moment: str, listener: str, tasks: int) -> None:
        self.count[moment] += 1
        if self.count[moment] == tasks:
            _tell(listener, moment)


@flow("measured.linear")
def linear(tasks: int = 1) -> Flow:
    """Tasks that do nothing, one after the other."""
    return linear_flow.Flow("linear").add(*(Nothing(f"task-{number}") for number in range(tasks)))


@flow("measured.unordered")
def unordered(tasks: int = 1) -> Flow:
    """Tasks that do nothing, in any order, as many at once as there are threads."""
    return unordered_flow.Flow("unordered").add(*(Nothing(f"task-{number}") for number in range(tasks)))


@flow("measured.start")
def start(listener: str) -> Flow:
    """One task that tells when it begins."""
    return linear_flow.Flow("start").add(Starts())


@flow("measured.wait")
def wait(listener: str) -> Flow:
    """One task that waits for its cancel event."""
    return linear_flow.Flow("wait").add(WaitsForCancel())


@flow("measured.many-waiting")
def many_waiting(listener: str, tasks: int = 1) -> Flow:
    """Coroutines that wait, all at once."""
    return unordered_flow.Flow("many-waiting").add(*(Waits(f"task-{number}") for number in range(tasks)))


@flow("measured.deaf")
def deaf(listener: str) -> Flow:
    """One task that does not stop."""
    return linear_flow.Flow("deaf").add(Deaf())


def _tell(listener: str, moment: str) -> None:
    # First the time, then everything that takes some.
    at = time.time()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(f"{moment} {at!r}".encode(), listener)
