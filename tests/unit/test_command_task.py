"""CommandTask: a program without a shell; its tree is ended to the last process, its outputs by its undo."""

import os
import sys
import threading
from pathlib import Path

import pytest

from ebbtide.tasks import CommandFailed, CommandTask, OutputExists
from ebbtide.tasks.run import How, Run
from ebbtide.testing import TaskRun, at_return, run_task, wait_until
from tests.services.stubborn import STUBBORN


class Python(CommandTask):
    """Runs a script of Python; undo as any command's."""

    keeps = 1000

    def command(self, script, words=()):
        return [sys.executable, "-c", script, *words]

    def outputs(self, made=()):
        return made

    def environment(self, extra=None):
        return extra or {}

    def folder(self, where=None):
        return where

    def progress(self, line):
        return float(line.removeprefix("at ")) if line.startswith("at ") else None


def python(script, **arguments):
    return run_task(Python(), {"script": script, **arguments})


@pytest.fixture
def lines(monkeypatch):
    found = []
    monkeypatch.setattr(Run, "log", lambda self, task, level, text: found.append((level, text)))
    return found


def test_its_arguments_are_those_of_its_methods():
    assert Python().requires == {"script"}
    assert Python().optional == {"words", "made", "extra", "where"}


def test_words_reach_the_program_as_they_are():
    words = ["$HOME", "; echo no", "two words", ""]

    run = python("import sys; print(sys.argv[1:])", words=words)

    assert run.result == {"code": 0, "outputs": [], "printed": f"{words!r}\n"}


def test_of_the_environment_only_what_is_named_is_passed(monkeypatch):
    monkeypatch.setenv("EBBTIDE_DATABASE", "postgresql://user:password@host/db")
    monkeypatch.setenv("API_KEY", "secret")
    monkeypatch.setenv("TZ", "UTC")
    script = "import os; print(sorted(name for name in os.environ if not name.startswith('_EBBTIDE_')))"

    printed = python(script, extra={"MINE": "1"}).result["printed"]

    assert "'MINE'" in printed
    assert "'TZ'" in printed
    assert "EBBTIDE_DATABASE" not in printed
    assert "API_KEY" not in printed


def test_what_it_prints_is_logged_line_by_line_and_its_last_line_too(lines):
    python("import sys; print('one'); print('two', file=sys.stderr); print('three', end='')")

    assert sorted(lines) == [("stderr", "two"), ("stdout", "one"), ("stdout", "three")]


def test_an_endless_line_is_cut_and_no_memory_is_taken(lines):
    python("print('x' * 300_000)")

    assert sum(len(text) for _, text in lines) == 300_000
    assert max(len(text) for _, text in lines) < 200_000


def test_its_progress_is_what_the_parser_makes_of_its_lines():
    assert [fraction for fraction, _ in python("print('at 0.5'); print('at 1')").reports] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("import sys; sys.exit('no room left')", "ended with code 1: no room left"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with signal SIGKILL"),
    ],
)
def test_a_bad_end_fails_the_task_and_says_how_it_ended(script, told):
    run = python(script)

    assert run.how is How.RAISED
    assert isinstance(run.error, CommandFailed)
    assert str(run.error).endswith(told)


def test_other_exit_codes_may_be_good():
    class Finds(Python):
        good_codes = (0, 1)

    assert run_task(Finds(), {"script": "raise SystemExit(1)"}).result["code"] == 1


def test_a_program_that_is_not_there_is_named():
    class Missing(CommandTask):
        def command(self):
            return ["/no/such/program"]

    assert "/no/such/program" in str(run_task(Missing()).error)


def test_a_text_is_no_command():
    class Text(CommandTask):
        def command(self):
            return "rm -rf /"

    assert "a list of a program and its arguments" in str(run_task(Text()).error)


def test_the_undo_removes_the_declared_outputs_and_nothing_else(tmp_path):
    script = """
import os
os.mkdir('folder'); open('folder/in', 'w'); open('file', 'w'); open('other', 'w')
os.symlink('/', 'link')
"""
    run = python(script, where=str(tmp_path), made=["folder", "file", "link", "never-made"])
    assert run.result["outputs"][1] == str(tmp_path / "file")

    run.revert()

    assert sorted(os.listdir(tmp_path)) == ["other"]
    assert Path("/").exists()


def test_an_output_that_was_there_before_is_refused_and_stays(tmp_path):
    (tmp_path / "mine").write_text("precious")

    run = python("open('mine', 'w')", where=str(tmp_path), made=["mine"])
    run.revert()

    assert isinstance(run.error, OutputExists)
    assert (tmp_path / "mine").read_text() == "precious"


def test_after_the_death_of_its_runner_it_begins_anew_without_what_it_had_made(tmp_path):
    run = TaskRun(
        Python, {"script": "open('mine', 'x').write('new')", "where": str(tmp_path), "made": ["mine"]}
    )
    run.execute(kill=at_return())
    assert (tmp_path / "mine").exists()

    run.execute()

    assert (run.how, (tmp_path / "mine").read_text()) == (How.RETURNED, "new")
    run.revert()
    assert os.listdir(tmp_path) == []


def pids(lines):
    return [int(text.split()[1]) for _, text in lines if text.split()[0] in ("orphan", "child", "self")]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_cancel_ends_a_program_that_ignores_sigterm_with_all_that_it_has_started(lines):
    class Stubborn(Python):
        kill_after_seconds = 0.05

    run = TaskRun(Stubborn(), {"script": STUBBORN + "time.sleep(600)\n"})
    body = threading.Thread(target=run.execute)
    body.start()
    wait_until(lambda: len(pids(lines)) == 3, "the program and what it started run")
    running = pids(lines)
    assert all(map(alive, running))

    run.cancel()
    body.join()

    assert run.how is How.CANCELLED
    assert not any(map(alive, running))


def test_a_program_that_heeds_sigterm_may_clean_up(lines, tmp_path):
    script = f"""
import signal, sys, time
def end(*_):
    print('x' * 200_000)  # more than a pipe takes: somebody has to read on
    open({str(tmp_path / "cleaned")!r}, 'w')
    sys.exit()
signal.signal(signal.SIGTERM, end)
print('up', flush=True)
time.sleep(600)
"""
    run = TaskRun(Python(), {"script": script})
    body = threading.Thread(target=run.execute)
    body.start()
    wait_until(lambda: ("stdout", "up") in lines, "the program runs")
    run.cancel()
    body.join()

    assert run.how is How.CANCELLED
    assert (tmp_path / "cleaned").exists()


def test_what_a_program_leaves_behind_is_ended_with_it(lines):
    run = python(STUBBORN)

    assert run.result["code"] == 0
    assert len(pids(lines)) == 3
    assert not any(map(alive, pids(lines)))
