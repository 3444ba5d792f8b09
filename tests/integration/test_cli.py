"""The whole path from the command line, with a real conductor: post, run, cancel, undo, retry."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ebbtide.cli import command
from ebbtide.cli.exits import Exit

MODULE = "flows_of_the_whole_path"
FLOWS = r'''
from pathlib import Path
from typing import Any
from taskflow.patterns import linear_flow
from ebbtide.flows import flow
from ebbtide.tasks import CancelableTask

class Step(CancelableTask):
    """Notes what it does in a file; waits for the gate, a file, to exist. Undo: notes that, too."""

    def execute(self, folder, gate):
        note(folder, "second waits" if gate and self.name == "second" else f"{self.name} done")
        print(f"{self.name} is at work")
        self.report(0.5, "half-way")
        while gate and self.name == "second" and not Path(gate).exists():
            self.sleep(0.01)
        return self.name

    def revert(self, result, folder):
        note(folder, f"{self.name} undone")

class Break(CancelableTask):
    def execute(self):
        raise ValueError("the disk is on fire")

def note(folder, text):
    with open(Path(folder, "notes"), "a") as notes:
        notes.write(text + "\n")

@flow("three-steps", returns="last")
def steps(folder: str, gate: str = ""):
    """Three steps."""
    tasks = Step("first"), Step("second"), Step("third", provides="last")
    return linear_flow.Flow("three-steps").add(*tasks)

@flow("broken-second")
def broken(folder: str, gate: str = ""):
    """A step, and one that fails."""
    return linear_flow.Flow("broken-second").add(Step("first"), Break("break"))
'''


@pytest.fixture(scope="module")
def folder_of_flows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    (folder / f"{MODULE}.py").write_text(FLOWS)
    return folder


def clean_environment() -> dict[str, str]:
    """This process's, without the user's options; with the checkout on the path where that is tested."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")}
    return {**environment, "PYTHONPATH": os.pathsep.join(sys.path)}


@contextmanager
def process(*words, **options) -> Iterator[Any]:
    """`ebbtide` with these words in a process of its own, ended with the block."""
    program = [sys.executable, "-m", "ebbtide", *words]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, text=True, **{"env": clean_environment(), **pipes, **options}) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.terminate()


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    """One store for all tests here: each looks at its own jobs only."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'ebbtide.db'}"


@pytest.fixture(scope="module")
def conductor(database, folder_of_flows) -> Iterator[None]:
    """A conductor that runs while the tests of this module do."""
    words = ("--database", database, "--flow-module", MODULE, "conductor", "--log-level", "warning")
    with process(*words, cwd=folder_of_flows) as started:
        ready = started.stderr.readline()
        assert ready.startswith("ebbtide: conductor "), ready + started.stderr.read()
        yield


@pytest.fixture
def start(database, folder_of_flows):
    """Start `ebbtide` with these words on the tests' store; it is ended with the test."""
    with ExitStack() as started:

        def call(*words):
            options = ("--database", database, "--flow-module", MODULE)
            return started.enter_context(process(*options, *words, cwd=folder_of_flows))

        yield call


@pytest.fixture
def run(database, folder_of_flows, monkeypatch):
    """Run `ebbtide` with these words on the tests' store, in this process: exit_code, stdout, stderr."""
    monkeypatch.chdir(folder_of_flows)
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)

    def call(*words):
        options = ["--database", database, "--flow-module", MODULE]
        return CliRunner().invoke(command, [*options, *words], catch_exceptions=False)

    return call


def notes(folder: Path) -> list[str]:
    return (folder / "notes").read_text().splitlines()


def until_it_waits(watcher) -> None:
    """Read the lines of `watch --json` until the second step is at work."""
    for line in watcher.stdout:
        if "second" in json.loads(line)["current"]:
            return
    pytest.fail(f"the job never came to its second step: {watcher.stderr.read()}")


def test_a_job_is_run_to_its_end(conductor, run, tmp_path):
    posted = run("post", "three-steps", "-p", f"folder={tmp_path}", "--wait")
    job_id = posted.stdout.strip()

    shown = json.loads(run("show", job_id[:8], "--json").stdout)

    assert posted.exit_code == Exit.DONE and f"job {job_id[:8]} completed" in posted.stderr
    assert (shown["state"], shown["progress"], shown["tasks_done"]) == ("completed", 1.0, 3)
    assert [task["how"] for task in shown["tasks"]] == ["returned"] * 3
    assert json.loads(run("result", job_id).stdout) == "third"
    assert notes(tmp_path) == ["first done", "second done", "third done"]
    assert [line.split("  ", 1)[1] for line in run("logs", job_id).stdout.splitlines()] == [
        "first  first is at work",
        "second  second is at work",
        "third  third is at work",
    ]
    too_late = run("cancel", job_id)
    assert too_late.exit_code == Exit.NOT_ALLOWED and "too late" in too_late.stderr


def test_a_cancelled_job_is_undone_newest_first_and_completes_when_retried(conductor, run, start, tmp_path):
    gate = tmp_path / "gate"
    job_id = run("post", "three-steps", "-p", f"folder={tmp_path}", "-p", f"gate={gate}").stdout.strip()
    until_it_waits(start("watch", job_id, "--json"))

    cancelled = run("cancel", job_id, "--reason", "wrong folder", "--wait")
    again = run("cancel", job_id, "--reason", "another")
    undone = notes(tmp_path)
    shown = run("show", job_id).stdout
    gate.touch()
    retried = run("retry", job_id, "--wait")

    assert cancelled.exit_code == Exit.DONE
    assert cancelled.stdout == f"{job_id}  accepted  cancelled, everything undone\n"
    assert again.exit_code == Exit.DONE and "wrong folder" in again.stdout
    assert undone == ["first done", "second waits", "second undone", "first undone"]
    assert "cancelled, everything undone" in shown and "wrong folder" in shown
    assert retried.exit_code == Exit.DONE
    assert retried.stdout == f"{job_id}  pending  attempt 2\n"
    last = json.loads(run("show", job_id, "--json").stdout)
    assert (last["state"], last["attempt"]) == ("completed", 2)


def test_a_failed_job_names_task_and_message(conductor, run, tmp_path):
    posted = run("post", "broken-second", "-p", f"folder={tmp_path}", "--wait")
    job_id = posted.stdout.strip()

    shown = run("show", job_id)

    assert posted.exit_code == Exit.ENDED_BADLY
    assert "break" in posted.stderr and "the disk is on fire" in posted.stderr
    assert "failed, everything undone" in shown.stdout
    assert "break: ValueError: the disk is on fire" in shown.stdout
    assert notes(tmp_path) == ["first done", "first undone"]
    assert run("result", job_id).exit_code == Exit.NOT_ALLOWED


def test_whoever_waits_for_success_learns_of_the_cancel(conductor, run, start, tmp_path):
    waiting = start(
        "post", "three-steps", "-p", f"folder={tmp_path}", "-p", f"gate={tmp_path / 'gate'}", "--wait"
    )
    job_id = waiting.stdout.readline().strip()
    until_it_waits(start("watch", job_id, "--json"))

    run("cancel", job_id)
    _, stderr = waiting.communicate()

    assert waiting.returncode == Exit.ENDED_BADLY
    assert "cancelled, everything undone" in stderr


def test_ctrl_c_ends_the_wait_and_not_the_job(conductor, run, start, tmp_path):
    gate = tmp_path / "gate"
    waiting = start("post", "three-steps", "-p", f"folder={tmp_path}", "-p", f"gate={gate}", "--wait")
    job_id = waiting.stdout.readline().strip()
    # Told of by the waiting process itself: from here on it is in its wait.
    assert "posted" in waiting.stderr.readline()

    waiting.send_signal(signal.SIGINT)
    _, stderr = waiting.communicate()
    gate.touch()

    assert waiting.returncode == Exit.INTERRUPTED
    assert stderr.splitlines()[-1].startswith(f"ebbtide: job {job_id[:8]} goes on")
    assert run("watch", job_id).exit_code == Exit.DONE


def test_followed_logs_end_with_the_job(conductor, run, start, tmp_path):
    gate = tmp_path / "gate"
    job_id = run("post", "three-steps", "-p", f"folder={tmp_path}", "-p", f"gate={gate}").stdout.strip()
    following = start("logs", "-f", job_id, "--json")

    first = json.loads(following.stdout.readline())
    gate.touch()
    rest = [json.loads(line)["task"] for line in following.stdout]

    assert first["text"] == "first is at work"
    assert rest == ["second", "third"] and following.wait() == Exit.DONE


def test_a_watcher_without_a_terminal_is_told_line_by_line(conductor, run, tmp_path):
    job_id = run("post", "broken-second", "-p", f"folder={tmp_path}").stdout.strip()

    watched = run("watch", job_id)

    told = [line.split("  ", 1)[1] for line in watched.stdout.splitlines()]
    assert watched.exit_code == Exit.ENDED_BADLY
    assert told[0] == "posted (attempt 1)" and told[-1].startswith("failed")
    assert told.index("first returned") < told.index("break begun") < told.index("first undone")


def test_a_conductor_says_when_it_is_ready_and_ends_when_asked(tmp_path):
    database = f"sqlite:///{tmp_path}/ebbtide.db"
    with process("--database", database, "conductor", "--json", "--log-json", "--runners", "1") as started:
        ready = json.loads(started.stdout.readline())
        started.send_signal(signal.SIGTERM)
        log = [json.loads(line) for line in started.stderr]

    assert ready["ready"] is True and ready["runners"] == 1 and ready["database"] == database
    assert started.returncode == Exit.DONE
    assert {line["level"] for line in log} == {"info"}


def test_a_conductor_cannot_be_started_on_a_text_file(tmp_path):
    (tmp_path / "notes.txt").write_text("no database\n" * 500)

    with process("conductor", "--database", f"sqlite:///{tmp_path}/notes.txt") as started:
        (line,) = started.stderr

    assert started.returncode == Exit.STORE and "notes.txt" in line


@pytest.fixture
def folder(tmp_path):
    """A few files to process, below a folder that is not the temporary one."""
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    for number in range(40):
        (source / "below" / f"{number}.txt").write_text(f"{number}\n" * 20_000)
    (source / "link").symlink_to("below/1.txt")
    return source


@pytest.fixture
def temporary(tmp_path):
    """What the demo is told to be the folder for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def demo(temporary):
    """Run the demo; returns how it ended."""

    def call(*words, prefix=()):
        return subprocess.run(
            [*prefix, sys.executable, "-m", "ebbtide", "demo", *words],
            env={**clean_environment(), "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
        )

    return call


def test_the_demo_holds_on_small_files_and_leaves_nothing(demo, folder, temporary):
    ended = demo(str(folder), "--json")

    told = json.loads(ended.stdout)
    assert (ended.returncode, list(temporary.iterdir())) == (Exit.DONE, [])
    assert told["holds"] is True
    assert [(job["name"], job["state"], job["attempt"]) for job in told["jobs"]] == [
        ("one", "completed", 1),
        ("two", "cancelled", 1),
        ("three", "completed", 1),
        ("two", "completed", 2),
    ]
    assert told["jobs"][1]["undone_in_order"][-1] == "prepare"
    assert told["jobs"][1]["latency_ms"]["undone"] > 0


def test_the_demo_names_a_file_that_cannot_be_read_and_leaves_nothing(demo, folder, temporary):
    (folder / "below" / "7.txt").chmod(0)
    prefix = []
    if os.geteuid() == 0:  # root reads everything, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv (util-linux) is not installed, and root reads every file")
        powers = "-dac_override,-dac_read_search"
        prefix = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"]

    ended = demo(str(folder), prefix=prefix)

    assert (ended.returncode, list(temporary.iterdir())) == (Exit.ENDED_BADLY, [])
    (line,) = ended.stderr.splitlines()
    assert "below/7.txt" in line and "everything undone" in line


def test_an_interrupted_demo_leaves_nothing(folder, temporary):
    environment = {**clean_environment(), "TMPDIR": str(temporary)}
    with process("demo", str(folder), env=environment) as started:
        assert any("claimed" in line for line in started.stdout)

        started.send_signal(signal.SIGINT)
        stderr = started.stderr.read()

    assert started.returncode == Exit.INTERRUPTED
    assert list(temporary.iterdir()) == [] and "interrupted" in stderr
