"""Ending a process with everything below it."""

import secrets
import signal
import subprocess
import sys
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide import trees

# Its first thread ends, another goes on and has a child: to the kernel its first thread is a zombie.
_HEADLESS = """
import ctypes, subprocess, threading
def go_on():
    print(subprocess.Popen(["sleep", "3600"]).pid, flush=True)
    threading.Event().wait()
threading.Thread(target=go_on).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def root():
    """A shell that waits for such a process."""
    command = ["sh", "-c", '"$@" & wait', "sh", sys.executable, "-c", _HEADLESS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_process_whose_first_thread_has_ended_is_ended_with_its_children(stage, root):
    grandchild = int(root.stdout.readline())
    (headless,) = trees.children(root.pid)
    stage.wait_until(lambda: stage.state(headless) == "Z", "its first thread to end")

    trees.end_tree(root.pid)

    # The grandchild fell to us and not to the root, which is no subreaper: killed, it may still be dying.
    stage.await_end_of([headless, grandchild])


# Survives SIGTERM; its child, a program of its own once the number is printed, does not.
_SURVIVOR = """
import signal, subprocess
signal.signal(signal.SIGTERM, lambda *_: None)
child = subprocess.Popen(["sleep", "3600"])
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def parent():
    """A process that survives SIGTERM, and a child of it that does not."""
    process = subprocess.Popen([sys.executable, "-c", _SURVIVOR], stdout=subprocess.PIPE, text=True)
    yield process
    trees.end_tree(process.pid)
    process.wait()
    process.stdout.close()


def test_a_sigterm_to_a_tree_passes_over_what_was_started_after_it_was_ordered(parent):
    child = int(parent.stdout.readline())

    trees.term_tree(parent.pid, before=trees._started(child))
    assert trees.children(parent.pid) == [child]
    trees.term_tree(parent.pid, before=trees._started(child) + 1.0)

    parent.wait()
    assert trees.children(parent.pid) == []


# So much memory that the kernel needs a while to take it back.
_LARGE = """
held = bytearray(400 << 20)
print(flush=True)
input()
"""


@pytest.fixture
def large():
    """A large process, and its mark, which no other test session on this machine has."""
    mark = secrets.token_hex(8)
    command = [sys.executable, "-c", _LARGE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env={"MARK": mark}, **pipes)
    process.stdout.readline()
    yield process, f"MARK={mark}"
    process.kill()
    process.communicate()


def test_what_is_marked_has_ended_and_not_only_lost_its_environment(large):
    process, mark = large

    trees.end_marked(mark)

    assert process.poll() == -signal.SIGKILL
