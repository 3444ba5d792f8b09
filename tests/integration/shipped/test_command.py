"""command: a program's outputs, its variables, its end; undone, nothing of it is left."""

import sys

import pytest

from ebbtide.errors import ParameterError
from ebbtide.flows import command as _registers  # noqa: F401
from ebbtide.flows.registry import registered
from ebbtide.tasks.command import CommandFailed, OutputExists
from ebbtide.testing import at_return
from tests.services.flowrun import FlowRun

MAKES = "import os; os.mkdir('out'); open('out/a', 'w').write('a'); print('half, 50 % done', flush=True)"


@pytest.fixture
def start(tmp_path):
    def call(code, **params):
        given = {"program": [sys.executable, "-c", code], "folder": str(tmp_path), **params}
        return FlowRun("command", given)

    return call


def test_a_program_makes_its_outputs_and_the_undo_removes_them(start, tmp_path, contents):
    run = start(MAKES, outputs=["out"]).forward()

    assert contents(tmp_path) == {"out": None, "out/a": b"a"}
    assert run.result == {"code": 0, "outputs": [str(tmp_path / "out")], "printed": "half, 50 % done\n"}
    assert 0.5 in [fraction for fraction, _ in run.runs["run"].reports]
    run.back()
    assert contents(tmp_path) == {}


def test_an_output_that_is_there_is_neither_replaced_nor_removed(start, tmp_path, contents):
    (tmp_path / "out").write_text("mine")
    run = start(MAKES, outputs=["out"])

    with pytest.raises(OutputExists, match="is there already"):
        run.forward()
    run.back()

    assert contents(tmp_path) == {"out": b"mine"}


def test_only_the_codes_that_are_named_are_good(start):
    assert start("raise SystemExit(3)", good_codes=[0, 3]).forward().result["code"] == 3
    with pytest.raises(CommandFailed, match="ended with code 4"):
        start("raise SystemExit(4)", good_codes=[0, 3]).forward()


def test_a_secret_comes_in_a_variable_and_the_conductors_own_ones_do_not(start, monkeypatch):
    monkeypatch.setenv("OF_THE_CONDUCTOR", "kept")
    code = "import os; print(sorted({'OF_THE_CONDUCTOR', 'MINE'} & set(os.environ)), os.environ['TOKEN'])"
    run = start(code, environment={"MINE": "1"}, secret="env:WHERE", secret_variable="TOKEN")
    run.store["secret"] = "hushhush"  # as a runner does

    assert run.forward().result["printed"] == "['MINE'] hushhush\n"


def test_cancelled_it_ends_at_once_and_leaves_nothing(start, tmp_path, contents):
    code = MAKES + "; import signal; signal.pause()"
    run = start(code, outputs=["out"])

    run.begin("run", cancel=lambda moment: moment.fraction == 0.5)

    assert run.runs["run"].cancelled
    run.back()
    assert contents(tmp_path) == {}


def test_killed_after_its_last_line_it_is_run_anew(start, tmp_path, contents):
    run = start(MAKES, outputs=["out"])
    first = run.begin("run", kill=at_return())

    first.execute()

    assert first.result["code"] == 0
    run.back()
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"program": []}, "at least 1"),
        ({"program": ["a\0b"]}, "no NUL character"),
        ({"environment": {"EBBTIDE_DATABASE": "x"}}, "none of EBBTIDE_"),
        ({"environment": {"a b": "x"}}, "name of a variable"),
        ({"outputs": [""]}, "at least 1"),
        ({"good_codes": [256]}, "255"),
    ],
)
def test_what_cannot_be_run_is_refused_when_it_is_posted(changed, words):
    with pytest.raises(ParameterError, match=words):
        registered.get("command").validate({"program": ["true"], "folder": "/"} | changed)
