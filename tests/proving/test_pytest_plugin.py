"""The pytest plug-in: fixtures that fail with what was found, and cost nothing where they are not used."""

import json
import re
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
CANCELLED = """
from pathlib import Path

from ebbtide import CancelableTask
from ebbtide.testing import at_message


class Writes(CancelableTask):
    def __init__(self, forgets=False, deaf=False):
        super().__init__()
        self.forgets, self.deaf = forgets, deaf

    def execute(self, folder):
        for number in range(3):
            (folder / str(number)).touch()
            if number == 2:
                raise RuntimeError("no paper")
            self.report(number / 3, f"wrote {number}")
            if not self.deaf:
                self.checkpoint()

    def revert(self, folder):
        for path in folder.iterdir():
            if not (self.forgets and path.name == "1"):
                path.unlink()


def test_at_a_checkpoint(cancel_at, tmp_path):
    run = cancel_at(2, Writes(), {"folder": tmp_path})
    assert run.cancelled and run.undone
    assert list(tmp_path.iterdir()) == []

def test_at_a_cue(cancel_at, tmp_path):
    cancel_at(at_message("wrote 1"), Writes(), {"folder": tmp_path})
    assert list(tmp_path.iterdir()) == []

def test_undo_forgets(cancel_at, tmp_path):
    cancel_at(2, Writes(forgets=True), {"folder": tmp_path})
    assert list(tmp_path.iterdir()) == []

def test_no_checkpoint_is_there(cancel_at, tmp_path):
    cancel_at(2, Writes(deaf=True), {"folder": tmp_path})

def test_failed_before(cancel_at, tmp_path):
    cancel_at(at_message("wrote 1"), Writes(deaf=True), {"folder": tmp_path})
"""
SERVED = """
import asyncio
from pathlib import Path

from taskflow.patterns import linear_flow

from ebbtide import AsyncTask, flow


class Waits(AsyncTask):
    async def execute(self, path):
        Path(path).touch()
        await asyncio.Event().wait()

    async def revert(self, path):
        Path(path).unlink()


@flow("waits")
def waits(path: str):
    return linear_flow.Flow("waits").add(Waits())


async def post(service, path):
    job = await service.post("waits", {"path": str(path)})
    while not path.exists():
        await asyncio.sleep(0.01)
    return job


def test_what_still_runs_is_cancelled_and_undone_at_its_end(ebbtide_service, tmp_path):
    async def program():
        async with ebbtide_service(flows=[waits]) as service:
            return await post(service, tmp_path / "begun")

    job = asyncio.run(program())
    assert not (tmp_path / "begun").exists()

    async def program_again():
        async with ebbtide_service(flows=[waits]) as service:
            return await service.wait(job.id, timeout=0)

    assert asyncio.run(program_again()).state == "cancelled"


def test_each_test_has_a_store_of_its_own(ebbtide_service):
    async def program():
        async with ebbtide_service(flows=[waits]) as service:
            return await service.poster.list()

    assert asyncio.run(program()) == []


def test_options_are_those_of_a_service(ebbtide_service, tmp_path):
    async def program():
        async with ebbtide_service(flows=[waits], rest="release") as service:
            await post(service, tmp_path / "begun")
            return await service.shutdown()

    assert asyncio.run(program()).released == 1
"""
UNUSED = """
import json, sys

def test_nothing():
    print(json.dumps(sorted(sys.modules)))
"""


def run(folder, text, *options):
    (folder / "test_mine.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-W",
        "error",
        "-p",
        "no:randomly",
        *options,
        "test_mine.py",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_fixture_fails_a_test_with_the_verdicts(workshop):
    ended = run(workshop.folder, TESTS)

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed, 1 passed" in ended.stdout
    assert "forget  undo leaks" in ended.stdout
    assert "forgotten is new (cancel at task.ended forget)" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_a_task_is_cancelled_at_a_moment_and_undone(tmp_path):
    ended = run(tmp_path, CANCELLED)

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "3 failed, 2 passed" in ended.stdout
    failed = dict(re.findall(r"FAILED test_mine.py::test_(\w+) - (.*)", ended.stdout))
    assert set(failed) == {"undo_forgets", "no_checkpoint_is_there", "failed_before"}
    assert failed["no_checkpoint_is_there"].startswith("ebbtide.testing.cued.Cue")
    assert "no cancel has stopped the task: RuntimeError: no paper" in ended.stdout


def test_a_service_is_there_with_a_store_of_the_tests_own(tmp_path):
    ended = run(tmp_path, SERVED, "-W", "ignore::DeprecationWarning")

    assert "3 passed" in ended.stdout, ended.stdout + ended.stderr


def test_a_session_that_does_not_use_it_loads_nothing_of_it(tmp_path):
    ended = run(tmp_path, UNUSED)

    assert ended.returncode == 0, ended.stdout
    loaded = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith("[")))
    assert "ebbtide.testing.proving.plugin" in loaded
    heavy = ("taskflow", "sqlalchemy", "pydantic", "ebbtide.conductor", "ebbtide.jobs", "ebbtide.flows")
    assert [name for name in loaded if name.startswith(heavy)] == []
