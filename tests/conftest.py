"""What every test gets: a store of its own, and the promise that nothing of it outlives the test."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

# What has been told to end may take until here to do so; after that it counts as leaked.
ENDING_SECONDS = 10.0


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The URL of an SQLite store that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ebbtide.db'}"


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process; kill the child so that others do not suffer."""
    threads_before = set(threading.enumerate())
    children_before = _children()
    yield
    threads = [thread for thread in threading.enumerate() if thread not in threads_before]
    threads = [thread for thread in threads if not thread.daemon and not _ended(thread)]
    children = [pid for pid in sorted(_children() - children_before) if not _process_ended(pid)]
    told = [f"thread {thread.name}" for thread in threads] + [_described(pid) for pid in children]
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    if told:
        pytest.fail(f"left running by this test: {', '.join(told)}", pytrace=False)


def _ended(thread: threading.Thread) -> bool:
    thread.join(ENDING_SECONDS)
    return not thread.is_alive()


def _children() -> set[int]:
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, listing.read_text().split()))
        except FileNotFoundError:  # that thread has just ended, and its children moved to another
            return _children()
    return {pid for pid in found if "multiprocessing." not in _command(pid)}


def _command(pid: int) -> str:
    """The command line, by which the long-lived servants of `multiprocessing` are told apart."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except FileNotFoundError:
        return ""


def _described(pid: int) -> str:
    return f"process {pid} ({_command(pid)})"


def _process_ended(pid: int) -> bool:
    """Whether the process ends in time. One that has ended and was not reaped yet has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], ENDING_SECONDS)[0])
    finally:
        os.close(descriptor)
