"""The commands: tokens, the server in a process of its own, and everything at once."""

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from urllib.parse import urlsplit

import httpx
import pytest
from click.testing import CliRunner

from ebbtide.cli import command
from ebbtide.jobs import Poster

STREAMS = 100


@pytest.fixture
def environment(database):
    own = {name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")}
    return {**own, "EBBTIDE_DATABASE": database, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def run(environment, monkeypatch):
    for name in [name for name in os.environ if name.startswith("EBBTIDE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EBBTIDE_DATABASE", environment["EBBTIDE_DATABASE"])
    return lambda *words: CliRunner().invoke(command, words)


@contextlib.contextmanager
def program(environment, *words):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = subprocess.Popen([sys.executable, "-m", "ebbtide", *words], text=True, env=environment, **pipes)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
        try:
            started.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.communicate()
            raise


@pytest.fixture
def served(run, environment, tmp_path):
    """A server in a process, its URL, and a file with an operator's token."""
    secret = run("token", "create", "ann", "--role", "operator").stdout.strip()
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(secret)
    with program(environment, "api", "--port", "0", "--json") as started:
        url = json.loads(started.stdout.readline())["api"]
        yield started, url, file


def test_a_token_is_made_listed_and_taken_back(run):
    made = json.loads(run("token", "create", "ann", "--role", "viewer", "--days", "7", "--json").stdout)
    plain = run("token", "create", "ops", "--role", "admin")
    listed = json.loads(run("token", "list", "--json").stdout)

    assert (made["name"], made["role"], made["jobs_of"]) == ("ann", "viewer", "ann")
    assert plain.stdout.startswith("ebt_")
    assert [(each["name"], each["jobs_of"]) for each in listed] == [("ann", "ann"), ("ops", None)]
    for secret in (made["token"], plain.stdout.strip()):
        assert secret not in json.dumps(listed) + run("token", "list").stdout
    assert run("token", "revoke", made["id"][:8]).exit_code == 0
    assert [each["name"] for each in json.loads(run("token", "list", "--json").stdout)] == ["ops"]
    assert run("token", "revoke", made["id"]).exit_code == 3


@pytest.mark.parametrize(
    "words",
    [
        ("ann", "--role", "root"),
        ("", "--role", "viewer"),
        ("ann", "--role", "admin", "--jobs-of", "eve"),
        ("ann", "--role", "viewer", "--jobs-of", "eve", "--all-jobs"),
        ("ann", "--role", "viewer", "--days", "0"),
        ("ann\x1b", "--role", "viewer"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(run, words):
    assert run("token", "create", *words).exit_code == 2


def test_a_host_that_others_reach_is_refused_while_nobody_has_a_token(run):
    refused = run("api", "--host", "0.0.0.0", "--port", "0")

    assert refused.exit_code == 2
    assert "ebbtide token create" in refused.stderr


def test_a_port_that_is_taken_is_told_in_one_line(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = run("api", "--port", str(taken.getsockname()[1]))

    assert (told.exit_code, len(told.stderr.splitlines())) == (2, 1)
    assert "--port" in told.stderr


def test_a_server_with_a_hundred_open_streams_stops_when_it_is_told_to(run, served):
    started, url, file = served
    host = urlsplit(url).netloc
    tokens = [file.read_text()] + [
        run("token", "create", name, "--role", "viewer").stdout.strip() for name in ("eve", "bob")
    ]
    with contextlib.ExitStack() as stack:
        responses = []
        for number in range(STREAMS):
            connection = stack.enter_context(contextlib.closing(http.client.HTTPConnection(host, timeout=30)))
            headers = {"Authorization": f"Bearer {tokens[number % 3]}"}
            connection.request("GET", "/api/v1/events", headers=headers)
            responses.append(connection.getresponse())
        assert {response.status for response in responses} == {200}
        assert all(b"snapshot" in response.readline() for response in responses)

        started.send_signal(signal.SIGTERM)

        assert started.wait(30) == 0
        # To its end, as it is told in its chunks: a response that is cut off raises.
        assert all(isinstance(response.read(), bytes) for response in responses)


def test_a_server_that_is_told_to_stop_says_once_that_it_did(served):
    started, _, _ = served

    started.send_signal(signal.SIGTERM)
    _, log = started.communicate(timeout=30)

    assert started.returncode == 0
    assert log.count("shut down") == 1


def test_every_verb_about_jobs_works_over_a_server(run, served, database):
    from ebbtide.flows import load_flows
    from ebbtide.jobs.catalogue import Catalogue
    from ebbtide.jobs.store import Store

    with Store(database) as store:
        Catalogue(store).publish([load_flows().get("file-processing")])
    _, url, file = served

    def ask(*words):
        return run(*words, "--server", url, "--token-file", str(file))

    flows = json.loads(ask("flows", "--json").stdout)
    job = ask("post", "file-processing", "-p", "source=/a", "-p", "destination=/b", "--label", "x=y")
    assert job.exit_code == 0, job.stderr
    job = job.stdout.strip()
    shown = json.loads(ask("show", job[:8], "--json").stdout)
    listed = json.loads(ask("ls", "--json").stdout)
    cancelled = ask("cancel", job[:8], "--reason", "spring", "--wait", "--json")

    assert [flow["name"] for flow in flows] == ["file-processing"]
    assert shown["posted_by"] == "ann"
    assert [each["id"] for each in listed] == [job]
    assert cancelled.exit_code == 0
    assert ask("watch", job[:8]).exit_code == 1  # cancelled, not completed
    assert ask("retry", job[:8]).exit_code == 0
    assert ask("cancel", job[:8]).exit_code == 0
    assert ask("result", job[:8]).exit_code == 4
    assert ask("logs", job[:8]).exit_code == 0
    assert ask("conductors").exit_code == 0
    assert ask("stats").exit_code == 0
    assert ask("unpark", job[:8]).exit_code == 4
    assert ask("accept", job[:8], "--reason", "fine").exit_code == 4
    assert ask("delete", job[:8]).exit_code == 0
    assert ask("show", job[:8]).exit_code == 3


def test_a_server_is_not_for_verbs_that_need_the_store(run, tmp_path):
    for words in (("token", "list"), ("prune",), ("db", "check"), ("conductor",), ("api",), ("up",)):
        refused = run(*words, "--server", "http://127.0.0.1:9", "--token-file", str(tmp_path / "x"))
        assert (refused.exit_code, "--server" in refused.stderr) == (2, True), words
    assert "--token-file" in run("ls", "--server", "http://127.0.0.1:9").stderr


def test_up_runs_a_job_that_its_login_url_may_post(environment, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_text("hello")
    with program(environment, "up", "--port", "0", "--json") as started:
        told = json.loads(started.stdout.readline())
        with httpx.Client(base_url=told["api"], timeout=30) as browser:
            assert browser.get(told["login"]).headers["location"] == "/"
            assert browser.get("/api/v1/me").json()["role"] == "admin"
        with Poster(environment["EBBTIDE_DATABASE"]) as poster:
            job = poster.post(
                "file-processing", {"source": str(source), "destination": str(tmp_path / "out")}
            )
            assert poster.wait(job.id, timeout=40).state == "completed"
            graph = poster.graph(job.id)
        started.send_signal(signal.SIGTERM)
        assert started.wait(40) == 0

    names = [task["name"] for task in graph["tasks"]]
    assert {"scan", "archive-1", "checksum-1", "publish"} <= set(names)
    assert ["scan", "archive-1"] in graph["links"]
    assert all(names.index(first) < names.index(then) for first, then in graph["links"])
    assert stat.S_ISDIR((tmp_path / "out").stat().st_mode)


def test_up_ends_when_a_part_of_it_has_ended(environment):
    with program(environment, "up", "--port", "0", "--json") as started:
        started.stdout.readline()
        children = f"/proc/{started.pid}/task/{started.pid}/children"
        with open(children) as listing:
            first = int(listing.read().split()[0])
        os.kill(first, signal.SIGKILL)

        assert started.wait(40) == 1
