"""The guard in conftest.py: a test that leaves something running fails, and says what it was."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

LEAVES_A_THREAD = """
import threading
forever = threading.Event()
def test_it():
    threading.Thread(target=forever.wait, args=(0.5,), name="left behind").start()
"""
LEAVES_A_PROCESS = """
import shutil
import subprocess
children = []
def test_it():
    children.append(subprocess.Popen(["sleep", "600"]))
"""
LEAVES_NOTHING = """
import subprocess, threading
def test_it():
    thread = threading.Thread(target=print)
    thread.start()
    subprocess.Popen(["true"]).wait()
"""


@pytest.fixture
def run(tmp_path):
    """Run one test module under the guard, which waits only briefly here."""
    guard = CONFTEST.read_text().replace("ENDING_SECONDS = 10.0", "ENDING_SECONDS = 0.1")
    assert guard != CONFTEST.read_text()
    (tmp_path / "conftest.py").write_text(guard)
    shutil.copytree(CONFTEST.parent / "services", tmp_path / "services")

    def runner(text: str) -> str:
        (tmp_path / "test_sample.py").write_text(text)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            tmp_path,
            tmp_path / "test_sample.py",
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout

    return runner


def test_a_thread_left_behind_fails_its_test(run):
    assert "left running by this test: thread left behind" in run(LEAVES_A_THREAD)


def test_a_child_left_behind_fails_its_test_and_is_ended(run):
    shown = run(LEAVES_A_PROCESS)

    assert "left running by this test: process" in shown
    assert "(sleep 600)" in shown


def test_nothing_left_behind_is_no_failure(run):
    assert "1 passed" in run(LEAVES_NOTHING)
