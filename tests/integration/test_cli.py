"""The whole path from the command line, with a real conductor: post, run, cancel, undo, retry."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide.cli.exits import Exit

MODULE = "flows_of_the_whole_path"
FLOWS = '''
from pathlib import Path
from taskflow.patterns import linear_flow
from ebbtide.flows import flow
from ebbtide.tasks import CancelableTask

class Step(CancelableTask):
    """Notes what it does in a file; waits for the gate, a file, to exist. Undo: notes that, too."""

    def execute(self, folder, gate):
        note(folder, f"{self.name} done" if not gate or self.name != "second" else "second waits")
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
        notes.write(text + "\\\\n")

@flow("steps", returns="last")
def steps(folder: str, gate: str = ""):
    """Three steps."""
    tasks = Step("first"), Step("second"), Step("third", provides="last")
    return linear_flow.Flow("steps").add(*tasks)

@flow("broken")
def broken(folder: str, gate: str = ""):
    """A step, and one that fails."""
    return linear_flow.Flow("broken").add(Step("first"), Break("break"))
'''.replace("\\\\n", "\\n")


@pytest.fixture(scope="module")
def folder_of_flows(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flows")
    (folder / f"{MODULE}.py").write_text(FLOWS)
    return folder


@pytest.fixture
def start(database, folder_of_flows):
    """Start `ebbtide` with these words in a process of its own; it is ended with the test."""
    started = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")}
    # Found by the processes, which run in another folder, when the tests run from a checkout.
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)

    def call(*words, **options) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "ebbtide", "--database", database, "--flow-module", MODULE, *words],
            cwd=folder_of_flows,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate()


@pytest.fixture
def run(start):
    """Run `ebbtide` with these words to its end: exit code, stdout, stderr."""

    def call(*words):
        process = start(*words)
        stdout, stderr = process.communicate()
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)

    return call


@pytest.fixture
def conductor(start):
    process = start("conductor", "--runners", "2", "--log-level", "warning")
    ready = process.stderr.readline()
    assert ready.startswith("ebbtide: conductor "), ready + process.stderr.read()
    return process


def notes(folder: Path) -> list[str]:
    return (folder / "notes").read_text().splitlines()


def until_it_waits(watcher: subprocess.Popen[str]) -> None:
    """Read the lines of `watch --json` until the second step is at work."""
    for line in watcher.stdout:
        if "second" in json.loads(line)["current"]:
            return
    pytest.fail(f"the job never came to its second step: {watcher.stderr.read()}")


def test_a_job_is_run_to_its_end(conductor, run, tmp_path):
    posted = run("post", "steps", "-p", f"folder={tmp_path}", "--wait")
    job_id = posted.stdout.strip()

    shown = json.loads(run("show", job_id[:8], "--json").stdout)

    assert posted.returncode == Exit.DONE and f"job {job_id[:8]} completed" in posted.stderr
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
    assert too_late.returncode == Exit.NOT_ALLOWED and "too late" in too_late.stderr


def test_a_cancelled_job_is_undone_newest_first_and_completes_when_retried(conductor, run, start, tmp_path):
    gate = tmp_path / "gate"
    job_id = run("post", "steps", "-p", f"folder={tmp_path}", "-p", f"gate={gate}").stdout.strip()
    until_it_waits(start("watch", job_id, "--json"))

    cancelled = run("cancel", job_id, "--reason", "wrong folder", "--wait")
    again = run("cancel", job_id, "--reason", "another")
    undone = notes(tmp_path)
    shown = run("show", job_id).stdout
    gate.touch()
    retried = run("retry", job_id, "--wait")

    assert cancelled.returncode == Exit.DONE
    assert cancelled.stdout == f"{job_id}  accepted  cancelled, everything undone\n"
    assert again.returncode == Exit.DONE and "wrong folder" in again.stdout
    assert undone == ["first done", "second waits", "second undone", "first undone"]
    assert "cancelled, everything undone" in shown and "wrong folder" in shown
    assert retried.returncode == Exit.DONE
    assert retried.stdout == f"{job_id}  pending  attempt 2\n"
    last = json.loads(run("show", job_id, "--json").stdout)
    assert (last["state"], last["attempt"]) == ("completed", 2)


def test_a_failed_job_names_task_and_message(conductor, run, tmp_path):
    posted = run("post", "broken", "-p", f"folder={tmp_path}", "--wait")
    job_id = posted.stdout.strip()

    shown = run("show", job_id)

    assert posted.returncode == Exit.ENDED_BADLY
    assert "break" in posted.stderr and "the disk is on fire" in posted.stderr
    assert "failed, everything undone" in shown.stdout
    assert "break: ValueError: the disk is on fire" in shown.stdout
    assert notes(tmp_path) == ["first done", "first undone"]
    assert run("result", job_id).returncode == Exit.NOT_ALLOWED


def test_whoever_waits_for_success_learns_of_the_cancel(conductor, run, start, tmp_path):
    waiting = start("post", "steps", "-p", f"folder={tmp_path}", "-p", f"gate={tmp_path / 'gate'}", "--wait")
    job_id = waiting.stdout.readline().strip()
    until_it_waits(start("watch", job_id, "--json"))

    run("cancel", job_id)
    _, stderr = waiting.communicate()

    assert waiting.returncode == Exit.ENDED_BADLY
    assert "cancelled, everything undone" in stderr


def test_ctrl_c_ends_the_wait_and_not_the_job(conductor, run, start, tmp_path):
    gate = tmp_path / "gate"
    waiting = start("post", "steps", "-p", f"folder={tmp_path}", "-p", f"gate={gate}", "--wait")
    job_id = waiting.stdout.readline().strip()
    # Told of by the waiting process itself: from here on it is in its wait.
    assert "posted" in waiting.stderr.readline()

    waiting.send_signal(signal.SIGINT)
    _, stderr = waiting.communicate()
    gate.touch()

    assert waiting.returncode == Exit.INTERRUPTED
    assert stderr.splitlines()[-1].startswith(f"ebbtide: job {job_id[:8]} goes on")
    assert run("watch", job_id).returncode == Exit.DONE


def test_followed_logs_end_with_the_job(conductor, run, start, tmp_path):
    gate = tmp_path / "gate"
    job_id = run("post", "steps", "-p", f"folder={tmp_path}", "-p", f"gate={gate}").stdout.strip()
    following = start("logs", "-f", job_id, "--json")

    first = json.loads(following.stdout.readline())
    gate.touch()
    rest = [json.loads(line)["task"] for line in following.communicate()[0].splitlines()]

    assert first["text"] == "first is at work"
    assert rest == ["second", "third"] and following.returncode == Exit.DONE


def test_a_watcher_without_a_terminal_is_told_line_by_line(conductor, run, tmp_path):
    job_id = run("post", "broken", "-p", f"folder={tmp_path}").stdout.strip()

    watched = run("watch", job_id)

    told = [line.split("  ", 1)[1] for line in watched.stdout.splitlines()]
    assert watched.returncode == Exit.ENDED_BADLY
    assert told[0] == "posted (attempt 1)" and told[-1].startswith("failed")
    assert told.index("first returned") < told.index("break begun") < told.index("first undone")


def test_a_conductor_says_when_it_is_ready_and_ends_when_asked(start, database):
    process = start("conductor", "--json", "--log-json", "--runners", "1")

    ready = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()

    assert ready["ready"] is True and ready["runners"] == 1 and ready["database"] == database
    assert process.returncode == Exit.DONE
    assert all(json.loads(line)["level"] == "info" for line in stderr.splitlines())


def test_a_conductor_cannot_be_started_on_a_text_file(run, tmp_path):
    (tmp_path / "notes.txt").write_text("no database\n" * 500)

    ended = run("conductor", "--database", f"sqlite:///{tmp_path}/notes.txt")

    assert ended.returncode == Exit.STORE
    assert len(ended.stderr.splitlines()) == 1


@pytest.fixture
def folder(tmp_path) -> Path:
    """A few files to process, below a folder that is not the temporary one."""
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    for number in range(40):
        (source / "below" / f"{number}.txt").write_text(f"{number}\n" * 20_000)
    (source / "link").symlink_to("below/1.txt")
    return source


@pytest.fixture
def demo(start, tmp_path, monkeypatch):
    """Run the demo with a temporary folder of its own; returns how it ended, and what is left there."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def call(*words, prefix=()):
        environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
        ended = subprocess.run(
            [*prefix, sys.executable, "-m", "ebbtide", "demo", *words],
            env=environment,
            capture_output=True,
            text=True,
        )
        return ended, [path.name for path in temporary.iterdir()]

    return call


def test_the_demo_holds_on_small_files_and_leaves_nothing(demo, folder):
    ended, left = demo(str(folder), "--json")

    told = json.loads(ended.stdout)
    assert (ended.returncode, left) == (Exit.DONE, [])
    assert told["holds"] is True
    assert [(job["name"], job["state"], job["attempt"]) for job in told["jobs"]] == [
        ("one", "completed", 1),
        ("two", "cancelled", 1),
        ("three", "completed", 1),
        ("two", "completed", 2),
    ]
    assert told["jobs"][1]["undone_in_order"][-1] == "prepare"
    assert told["jobs"][1]["latency_ms"]["undone"] > 0


def test_the_demo_names_a_file_that_cannot_be_read_and_leaves_nothing(demo, folder):
    (folder / "below" / "7.txt").chmod(0)
    prefix = []
    if os.geteuid() == 0:  # root reads everything, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv (util-linux) is not installed, and root reads every file")
        powers = "-dac_override,-dac_read_search"
        prefix = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"]

    ended, left = demo(str(folder), prefix=prefix)

    assert (ended.returncode, left) == (Exit.ENDED_BADLY, [])
    (line,) = ended.stderr.splitlines()
    assert "below/7.txt" in line and "everything undone" in line


def test_an_interrupted_demo_leaves_nothing(start, folder, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "ebbtide", "demo", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "claimed" in line:
            break

    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()

    assert process.returncode == Exit.INTERRUPTED
    assert list(temporary.iterdir()) == [] and "interrupted" in stderr
