"""Fault points: they are where they are said to be, do nothing, and do what is armed at its time, once."""

import ast
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ebbtide import faults

ROOT = Path(__file__).parents[2]
ROOMS = ("tasks", "flows", "jobs", "conductor", "ebbtide/testing", "cli")


def points_in_source():
    """The arguments of every call of `faults.point`."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "faults.point":
                    yield ast.literal_eval(node.args[0])


def test_the_points_of_the_source_are_those_that_are_listed():
    assert set(points_in_source()) == set(faults.POINTS)


def test_the_documents_name_every_point():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    assert [name for name in faults.POINTS if f"| `{name}` | {faults.POINTS[name]} |" not in page] == []


def test_nothing_is_armed_in_tests_that_arm_nothing():
    faults.point("task.begun")

    assert faults._armed == ()


def test_an_action_happens_once_at_its_time():
    told = []
    with faults.arm("task.begun", lambda: told.append("happened"), at=2) as fault:
        for number in (1, 2, 3):
            assert fault.happened.is_set() == (number == 3)
            told.append(number)
            faults.point("task.begun")
            faults.point("task.ended")
    faults.point("task.begun")

    assert told == [1, 2, "happened", 3]


def test_what_an_action_raises_goes_through_the_point():
    with faults.arm("task.begun", lambda: 1 // 0), pytest.raises(ZeroDivisionError):
        faults.point("task.begun")

    assert faults._armed == ()


def test_a_thread_pauses_at_a_point_until_its_gate_opens():
    gate = threading.Event()
    passed = []

    def work():
        faults.point("task.begun")
        passed.append(True)

    with faults.arm("task.begun", lambda: gate.wait(30)) as fault:
        thread = threading.Thread(target=work)
        thread.start()
        assert fault.happened.wait(30)
        assert passed == []

        gate.set()
        thread.join()
    assert passed == [True]


def test_several_faults_may_be_armed_at_one_point():
    told = []
    with (
        faults.arm("task.begun", lambda: told.append("first")),
        faults.arm("task.begun", lambda: told.append("second"), at=2),
    ):
        faults.point("task.begun")
        faults.point("task.begun")

    assert told == ["first", "second"]


def test_a_watcher_is_told_of_every_point_and_of_the_task_that_it_is_about():
    told = []
    with faults.watch(lambda name, task: told.append((name, task))):
        faults.point("task.begun", "copy")
        faults.point("store.committed")
    faults.point("task.ended", "copy")

    assert told == [("task.begun", "copy"), ("store.committed", None)]
    assert faults._armed == ()


@pytest.mark.parametrize(
    "name, at, message",
    [
        ("task.begin", 1, "there is no fault point 'task.begin'; known: "),
        ("task.begun", 0, "which never comes"),
    ],
)
def test_what_would_never_happen_cannot_be_armed(name, at, message):
    with pytest.raises(ValueError, match=message), faults.arm(name, print, at=at):
        pass


# In another process.

COMES_TWICE = """
import sys
from ebbtide import faults
try:
    for _ in range(2):
        print("comes", flush=True)
        faults.point("task.begun")
except faults.FaultRaised:
    print("raised")
print("goes on")
"""


def start(**variables):
    environment = {f"EBBTIDE_TEST_{name.upper()}": value for name, value in variables.items()}
    return subprocess.Popen(
        [sys.executable, "-c", COMES_TWICE],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "armed, comes, status",
    [
        ("task.begun:kill", 1, -signal.SIGKILL),
        ("task.begun:kill:2", 2, -signal.SIGKILL),
        ("task.ended:kill,task.begun:exit:2", 2, faults.EXIT_STATUS),
        ("task.begun:kill:3", 2, 0),
        ("", 2, 0),
    ],
)
def test_a_process_dies_where_its_environment_says(armed, comes, status):
    process = start(faults=armed)

    told, _ = process.communicate()

    assert process.returncode == status
    assert told.split("\n")[:-1] == ["comes"] * comes + ["goes on"] * (status == 0)


def test_a_process_raises_where_its_environment_says():
    told, _ = start(faults="task.begun:raise:2").communicate()

    assert told == "comes\ncomes\nraised\ngoes on\n"


def test_a_process_stops_where_its_environment_says_and_goes_on_from_there():
    process = start(faults="task.begun:stop")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    os.set_blocking(process.stdout.fileno(), False)
    before = process.stdout.read()

    process.send_signal(signal.SIGCONT)
    os.set_blocking(process.stdout.fileno(), True)
    after, _ = process.communicate()

    assert (before, after, process.returncode) == ("comes\n", "comes\ngoes on\n", 0)


def test_a_fault_that_is_armed_by_a_file_happens_to_one_process_and_takes_the_file_away(tmp_path):
    (tmp_path / "task.begun:exit:2").touch()

    processes = [start(faults="task.begun:exit:2", faults_folder=str(tmp_path)) for _ in range(3)]
    for process in processes:
        process.communicate()

    assert sorted(process.returncode for process in processes) == [0, 0, faults.EXIT_STATUS]
    assert list(tmp_path.iterdir()) == []


def test_a_fault_that_is_to_be_armed_by_a_file_counts_from_then_on(tmp_path):
    both = "task.begun:exit:2,task.begun:stop:1"
    told, _ = start(faults=both, faults_folder=str(tmp_path)).communicate()
    assert told == "comes\ncomes\ngoes on\n"

    (tmp_path / "task.begun:stop:1").touch()
    process = start(faults=both, faults_folder=str(tmp_path))
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    (tmp_path / "task.begun:exit:2").touch()  # it has come there once, and comes once more
    process.send_signal(signal.SIGCONT)
    told, _ = process.communicate()

    assert told == "comes\ncomes\ngoes on\n"
    assert [left.name for left in tmp_path.iterdir()] == ["task.begun:exit:2"]


@pytest.mark.parametrize(
    "armed", ["task.begun", "task.begun:die", "task.begun:kill:x", "task.begun:kill:1:1", "task.begin:kill"]
)
def test_an_environment_that_would_do_nothing_is_refused(armed):
    process = start(faults=armed)

    told, error = process.communicate()

    assert (process.returncode, told) == (1, "")
    assert "EBBTIDE_TEST_FAULTS: 'task.begun" in error or "no fault point 'task.begin'" in error
