"""`examples/fastapi` as it is run: a program of its own, asked over HTTP, killed, ended, started again."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ebbtide.testing import wait_until
from tests.programs import loaded
from tests.services.endpoint import END, PATH, event, streams
from tests.services.ports import reserved_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"
ANSWER = event("Hel") + event("lo") + END
# A conductor that was killed is given up after this; usually it is half a minute.
LEASE = {"EBBTIDE_LEASE_SECONDS": "3", "EBBTIDE_SELF_FENCE_SECONDS": "2", "EBBTIDE_RENEW_SECONDS": "0.5"}

sessions = loaded("sessions")


class Program:
    """The example's program in a folder, which is started again and again."""

    def __init__(self, folder, app, port, environ):
        self.folder = folder
        self.app = app
        self.environ = environ
        self.port = port
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.log = folder / "log"
        self.process = None

    def start(self):
        self.log.write_text("")
        command = [sys.executable, "-P", "-W", "ignore", "-m", "uvicorn", self.app]
        command += ["--port", str(self.port), "--log-level", "warning", "--timeout-graceful-shutdown", "1"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--app-dir", str(self.folder)],
                cwd=self.folder,
                env=os.environ | LEASE | self.environ,
                stdout=log,
                stderr=log,
            )
        wait_until(self.answers, "the program to answer", seconds=60)

    def answers(self):
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return bool(self.client.get("/openapi.json"))
        return False

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(60)

    def ask(self, prompt="Say hello"):
        answered = self.client.post("/answers", json={"prompt": prompt})
        assert answered.status_code == 202
        return answered.json()["id"]

    def states(self):
        return [each["state"] for each in self.client.get("/answers", params={"limit": 1000}).json()]

    def events(self, job, after=0):
        """All events of the stream of an answer: id, name and data."""
        with self.client.stream(
            "GET", f"/answers/{job}/stream", headers={"Last-Event-ID": str(after)}
        ) as stream:
            text = stream.read().decode()
        found = re.findall(r"(?:id: (\d+)\n)?event: (\w+)\ndata: (.*)\n\n", text)
        return [(int(number or 0), name, json.loads(data)) for number, name, data in found]


@pytest.fixture
def started(tmp_path):
    """Starts a program of the example; ended with the test."""
    programs = []

    def call(path, **environ):
        for each in EXAMPLE.rglob("*.py"):
            (tmp_path / each.name).write_text(each.read_text())
        programs.append(Program(tmp_path, path, ports.enter_context(reserved_port()), environ))
        programs[-1].start()
        return programs[-1]

    with contextlib.ExitStack() as ports:
        yield call
        for program in programs:
            program.client.close()
            if program.process.poll() is None:
                program.end(signal.SIGKILL)


@pytest.fixture
def program(started, site):
    return started("answers:app", ENDPOINT=f"{site.url}/v1", SHUTDOWN_SECONDS="1")


def said(events):
    return "".join(
        data["says"] for _, name, data in events if name == "chunk" and isinstance(data["says"], str)
    )


def test_a_prompt_is_answered_streamed_and_listed(program, site):
    site.next(PATH, streams(ANSWER))
    job = program.ask("Say hello")

    events = program.events(job)

    assert said(events) == "Hello"
    assert events[-1][1:] == ("end", {"id": job, "prompt": "Say hello", "state": "completed", "error": None})
    assert [each["id"] for each in program.client.get("/answers").json()] == [job]
    # Who was cut off goes on where he was.
    assert program.events(job, after=events[0][0]) == events[1:]


def test_what_is_unknown_or_too_late_is_told_by_its_status(program, site):
    site.next(PATH, streams(ANSWER))
    job = program.ask()
    program.events(job)

    assert program.client.get("/answers/nobody/stream").status_code == 404
    assert program.client.post(f"/answers/{job}/cancel").status_code == 409
    assert program.client.post("/answers", json={"prompt": ""}).status_code == 422


def test_cancelled_in_mid_stream_it_ends_cancelled_and_what_was_said_stays(program, site):
    site.next(PATH, streams(event("Hel"), stall=True))
    job = program.ask()
    assert site.stalled.wait(30)

    answered = program.client.post(f"/answers/{job}/cancel")
    events = program.events(job)

    assert answered.status_code == 202
    assert said(events) == "Hel"
    assert events[-1][2]["state"] == "cancelled"


@pytest.mark.timeout(180)
def test_killed_and_started_again_it_has_lost_no_answer(program, site):
    site.next(PATH, *[streams(event("Hel"), stall=True) for _ in range(5)])
    site.page(PATH, ANSWER, content_type="text/event-stream")
    jobs = [program.ask() for _ in range(5)]
    wait_until(lambda: len(site.asked(PATH)) == 5, "all to be asked", seconds=30)

    program.end(signal.SIGKILL)
    program.start()
    ended = [program.events(job) for job in jobs]

    assert [events[-1][2]["state"] for events in ended] == ["completed"] * 5
    for events in ended:
        runs = sorted({data["run"] for _, name, data in events if name == "chunk"})
        assert said([each for each in events if each[1] == "chunk" and each[2]["run"] == runs[-1]]) == "Hello"


@pytest.mark.timeout(240)
def test_ended_with_fifty_answers_running_it_says_so_and_goes_on_with_them_after_a_restart(program, site):
    site.next(PATH, *[streams(event("Hel"), stall=True) for _ in range(50)])
    site.page(PATH, ANSWER, content_type="text/event-stream")
    for _ in range(50):
        program.ask()
    wait_until(lambda: len(site.asked(PATH)) == 50, "all to be asked", seconds=60)
    assert program.states() == ["running"] * 50

    program.end(signal.SIGTERM)

    lines = program.log.read_text().splitlines()
    phases = [line for line in lines if line.startswith("service.")]
    assert phases == [
        "service.ready runners=64 isolation=thread",
        "service.accepts_no_more running=50",
        "service.waited ended=0 running=50",
        "service.releases jobs=50",
        "service.ended ended={} released=50",
    ]
    program.start()
    wait_until(lambda: program.states() == ["completed"] * 50, "all to be answered", seconds=120)


# In the background


def written(folder, name):
    path = folder / f"{name}.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_a_background_task_is_lost_with_its_process(started, tmp_path):
    program = started("before:app")
    program.client.post("/reports/mine")
    wait_until(lambda: written(tmp_path, "mine"), "its first page", seconds=30)

    program.end(signal.SIGKILL)
    program.start()

    assert 0 < len(written(tmp_path, "mine")) < 10


@pytest.mark.timeout(120)
def test_a_job_goes_on_where_it_was_and_is_undone_when_it_is_called_off(started, tmp_path):
    program = started("after:app")
    program.client.post("/reports/mine")
    wait_until(lambda: written(tmp_path, "mine"), "its first page", seconds=30)

    program.end(signal.SIGKILL)
    program.start()
    wait_until(lambda: len(written(tmp_path, "mine")) >= 10, "its last page", seconds=60)

    # A page that was written and not saved yet is written twice.
    assert sorted(set(written(tmp_path, "mine"))) == [f"page {page}" for page in range(10)]
    job = program.client.post("/reports/other", params={"pages": 1000}).json()["job"]
    wait_until(lambda: written(tmp_path, "other"), "its first page", seconds=30)
    program.client.post(f"/reports/other/cancel/{job}")
    wait_until(lambda: not (tmp_path / "other.txt").exists(), "its undo", seconds=30)


@pytest.mark.timeout(300)
def test_the_page_shows_what_is_printed(tmp_path):
    shell = sessions.Shell(tmp_path)
    try:
        for step, printed in sessions.play(EXAMPLE / "README.md", shell):
            if not sessions.same(printed, step.shown):
                told = f"$ {step.command}\n{printed}\nis printed, but the page shows\n{step.shown}"
                pytest.fail(told, pytrace=False)
    finally:
        shell.close()
