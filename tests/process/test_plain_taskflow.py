"""`examples/plain_taskflow` as it is run: stock posters, conductors and persistence; killed and cancelled."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from taskflow import states
from taskflow.persistence import backends

from ebbtide.jobs.board.sql import SqlJobBoard
from ebbtide.jobs.plain import open_requests

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_taskflow"
PATIENCE_SECONDS = 100.0
KEPT = ("PATH", "HOME", "PYTHONPATH")

pytestmark = pytest.mark.timeout(240)


class Program:
    """The example in one of its two forms, with a database, a board and a folder of its own."""

    def __init__(self, folder: Path, database: str, **options: str) -> None:
        self.folder = folder
        self.database = database.replace("postgresql://", "postgresql+psycopg2://")
        self.form = "after"
        self.options = {"DATABASE": self.database, "BOARD": "sql", "PIECE_SECONDS": "0.05"}
        self.options |= {"REQUESTS": f"file://{folder / 'cancellations'}"} | options
        self._conductors: list[subprocess.Popen[bytes]] = []

    def post(self, name: str, pieces: int) -> tuple[str, str]:
        """Post a download; returns the uuids of its job and of its flow."""
        told = self._run("post.py", str(self.folder / name), str(pieces)).split()
        return told[1], told[3]

    def cancel(self, uuid: str, reason: str = "no more") -> None:
        assert self._run("cancel.py", uuid, reason) == "pending\n"

    def conduct(self, name: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{name}.log", "wb") as log:
            conductor = subprocess.Popen(
                [sys.executable, EXAMPLE / self.form / "conduct.py", name],
                env=self._environment(),
                stdout=log,
                stderr=log,
            )
        self._conductors.append(conductor)
        return conductor

    def end(self) -> None:
        """End the conductors as a person would."""
        for conductor in self._conductors:
            conductor.send_signal(signal.SIGTERM)  # nothing happens once it is reaped
        for conductor in self._conductors:
            conductor.wait(PATIENCE_SECONDS)

    def kill_what_is_left(self) -> None:
        for conductor in self._conductors:
            if conductor.poll() is None:
                conductor.kill()
                conductor.wait()

    def pieces(self, name: str) -> int:
        return len(list((self.folder / name).glob("piece-*")))

    def state(self, flow: str) -> str | None:
        state: str | None = self.detail(flow).state
        return state

    def detail(self, flow: str) -> Any:
        backend = backends.fetch({"connection": self.database})
        try:
            with contextlib.closing(backend.get_connection()) as connection:
                return connection.get_flow_details(flow)
        finally:
            backend.close()

    def wait_until(self, happened: Callable[[], object], what: str) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            if time.monotonic() > give_up:
                pytest.fail(f"waited {PATIENCE_SECONDS} s in vain for {what}\n{self.log}")
            threading.Event().wait(0.05)

    @property
    def log(self) -> str:
        """What all conductors have logged."""
        return "\n".join(log.read_text() for log in sorted(self.folder.glob("*.log")))

    def _run(self, script: str, *arguments: str) -> str:
        command = [sys.executable, str(EXAMPLE / self.form / script), *arguments]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | self.options


@pytest.fixture
def start(tmp_path: Path, database: str) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def started(**options: str) -> Program:
        programs.append(Program(tmp_path, database, **options))
        return programs[-1]

    yield started
    for program in programs:
        program.kill_what_is_left()


@pytest.fixture
def board(database: str) -> Iterator[SqlJobBoard]:
    """The board as somebody sees it who looks on."""
    opened = SqlJobBoard("look", {"connection": database})
    opened.connect()
    yield opened
    opened.close()


def test_the_program_as_it_was_runs_on_the_board_sql(start, board):
    program = start()
    program.form = "before"
    _, flow = program.post("one", 3)

    program.conduct("first")

    program.wait_until(lambda: board.job_count == 0, "the job to be consumed")
    assert program.state(flow) == states.SUCCESS
    assert (program.folder / "one" / "complete").exists()
    program.end()


@pytest.mark.parametrize("by", ["job", "flow"])
def test_after_the_small_step_a_download_is_cancelled_and_leaves_nothing(start, board, by):
    program = start()
    job, flow = program.post("one", 10_000)
    program.conduct("first")
    program.wait_until(lambda: program.pieces("one") > 2, "the download to be under way")

    program.cancel(job if by == "job" else flow, "wrong folder")

    program.wait_until(lambda: board.job_count == 0, "the job to be consumed")
    assert program.state(flow) == states.REVERTED
    assert not (program.folder / "one").exists()
    assert program.detail(flow).meta["ebbtide_cancel"]["reason"] == "wrong folder"
    program.end()


def test_any_program_of_the_user_cancels_by_writing_a_file(start, board):
    program = start()
    _, flow = program.post("one", 10_000)
    program.conduct("first")
    program.wait_until(lambda: program.pieces("one") > 2, "the download to be under way")

    folder = program.folder / "cancellations"
    unfinished = program.folder / "request"
    unfinished.write_text(json.dumps({"status": "pending", "reason": "by hand"}))
    unfinished.rename(folder / f"{flow}.json")

    program.wait_until(lambda: board.job_count == 0, "the job to be consumed")
    assert program.state(flow) == states.REVERTED
    with open_requests(program.options["REQUESTS"]) as requests:
        assert requests.check(flow).answer == "accepted"
    program.end()


def test_of_two_conductors_one_is_killed_and_the_other_ends_its_jobs(start, board):
    program = start(EXPIRY="3")
    names = [f"file-{number}" for number in range(5)]
    flows = [program.post(name, 40)[1] for name in names]
    cancelled_job, cancelled_flow = program.post("unwanted", 10_000)
    first = program.conduct("first")
    program.conduct("second")
    owners = lambda: {board.find_owner(job) for job in board.iterjobs()} - {None}  # noqa: E731
    program.wait_until(lambda: len(owners()) == 2, "both to be at work")

    first.kill()
    first.wait()
    program.cancel(cancelled_job)

    program.wait_until(lambda: board.job_count == 0, "all jobs to be consumed")
    assert [program.state(flow) for flow in flows] == [states.SUCCESS] * 5, program.log
    assert [program.pieces(name) for name in names] == [40] * 5
    assert program.state(cancelled_flow) == states.REVERTED
    assert not (program.folder / "unwanted").exists()
    program.end()


def test_a_conductor_that_is_told_to_end_leaves_its_job_to_the_next(start, board):
    program = start()
    _, flow = program.post("one", 60)
    program.conduct("first")
    program.wait_until(lambda: program.pieces("one") > 2, "the download to be under way")

    program.end()

    assert program.pieces("one") == 60  # the task was let run to its end
    (job,) = board.iterjobs()
    assert job.state == states.UNCLAIMED
    assert program.state(flow) == states.SUSPENDED
    program.conduct("second")
    program.wait_until(lambda: board.job_count == 0, "the job to be consumed")
    assert program.state(flow) == states.SUCCESS
    program.end()


@pytest.mark.postgresql_only("a program on ZooKeeper and PostgreSQL")
def test_the_same_program_on_zookeeper(start, zookeeper, zookeeper_path):
    requests = f"zookeeper://{zookeeper.hosts}{zookeeper_path}"
    program = start(BOARD="zookeeper", ZOOKEEPER=zookeeper.hosts, REQUESTS=requests)
    program.form = "before"
    _, kept = program.post("kept", 3)
    program.form = "after"
    job, flow = program.post("unwanted", 10_000)
    program.conduct("first")
    program.wait_until(lambda: program.pieces("unwanted") > 2, "the download to be under way")

    program.cancel(job)

    program.wait_until(lambda: program.state(flow) == states.REVERTED, "the undo")
    program.wait_until(lambda: program.state(kept) == states.SUCCESS, "the other download")
    assert not (program.folder / "unwanted").exists()
    assert (program.folder / "kept" / "complete").exists()
    program.end()
