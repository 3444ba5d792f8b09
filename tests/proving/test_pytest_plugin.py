"""The pytest plug-in: a fixture that fails with the verdicts, and costs nothing where it is not used."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(300)

TESTS = """
import pytest

OPTIONS = {"flow_modules": ["provable"], "points": 0, "doubles": 0, "seed": 1}

def test_good(prove_flow, tmp_path):
    proof = prove_flow("serial", {"folder": str(tmp_path)}, same=[tmp_path], **OPTIONS)
    assert proof.holds
    assert proof.crashes

def test_bad(prove_flow, tmp_path):
    prove_flow("forgetful", {"folder": str(tmp_path)}, same=[tmp_path], **OPTIONS)
"""
UNUSED = """
import json, sys

def test_nothing():
    print(json.dumps(sorted(sys.modules)))
"""


def run(folder, text):
    (folder / "test_mine.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-W", "error", "-p", "no:randomly", "test_mine.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_fixture_fails_a_test_with_the_verdicts(workshop):
    ended = run(workshop.folder, TESTS)

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed, 1 passed" in ended.stdout
    assert "forget  undo leaks" in ended.stdout
    assert "forgotten is new (cancel at task.ended forget)" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_a_session_that_does_not_use_it_loads_nothing_of_it(tmp_path):
    ended = run(tmp_path, UNUSED)

    assert ended.returncode == 0, ended.stdout
    loaded = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith("[")))
    assert "ebbtide.testing.proving.plugin" in loaded
    heavy = ("taskflow", "sqlalchemy", "pydantic", "ebbtide.conductor", "ebbtide.jobs", "ebbtide.flows")
    assert [name for name in loaded if name.startswith(heavy)] == []
