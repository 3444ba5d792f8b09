"""Flows for jobs in processes: what tasks do is written down in a file, each line with its process."""

import os
import threading
from pathlib import Path

from taskflow.patterns import linear_flow

from ebbtide import CancelableTask, StreamTask, flow


def _note(noted, word):
    with Path(noted).open("a") as lines:
        lines.write(f"{word} {os.getpid()}\n")


class SaysItsProcess(StreamTask):
    """Sends the number of its process. Undo: nothing to undo."""

    async def execute(self, noted):
        yield os.getpid()


class Deaf(CancelableTask):
    """Comes to no checkpoint. Undo: written down."""

    def execute(self, noted):
        _note(noted, "begins")
        threading.Event().wait()

    def revert(self, noted):
        _note(noted, "undone")


@flow("says-its-process")
def says_its_process(noted: str):
    return linear_flow.Flow("says-its-process").add(SaysItsProcess(name="says"))


@flow("deaf")
def deaf(noted: str):
    return linear_flow.Flow("deaf").add(Deaf(name="deaf"))
