"""`examples/cluster` as its page says: typed by command, on servers of its own; and its compose file."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ebbtide.config import load_settings
from tests.programs import loaded
from tests.services.absence import missing
from tests.services.postgresql import find_programs
from tests.services.zookeeper import needed_java

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "cluster"
PAGE = EXAMPLE / "README.md"
SHOWN_PORT, PORTS = 5700, 10


sessions = loaded("sessions")


def free_ports() -> int:
    """The first of so many that follow one another and are free."""
    for first in range(20_000, 30_000, PORTS):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in range(first, first + PORTS):
                taken = held.enter_context(socket.socket())
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind(("127.0.0.1", port))
            return first
    raise AssertionError("no ports are free")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A reader's shell. Whatever the page leaves behind when it breaks off is ended and removed."""
    needed_java()
    if find_programs() is None:
        missing("no PostgreSQL here")
    # `mktemp` is to make folders where PostgreSQL's own user may enter, and where they are found again.
    folder = Path(tempfile.mkdtemp(prefix="ebbtide-cluster-"))
    folder.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("CLUSTER_PORT", str(free_ports()))
    opened = sessions.Shell(tmp_path)
    try:
        yield opened
    finally:
        opened.close()
        for left in folder.iterdir():
            subprocess.run([EXAMPLE / "servers", "stop", left], check=True, timeout=120)
        shutil.rmtree(folder)


@pytest.mark.timeout(600)
def test_the_page_shows_what_is_printed(shell, monkeypatch):
    monkeypatch.setattr(sessions, "PATIENCE_SECONDS", 120.0)
    first = int(os.environ["CLUSTER_PORT"])

    for step, printed in sessions.play(PAGE, shell):
        for number in range(PORTS):
            printed = printed.replace(f":{first + number}", f":{SHOWN_PORT + number}")
        if not sessions.same(printed, step.shown):
            told = f"$ {step.command}\n{printed}\nis printed, but the page shows\n{step.shown}"
            pytest.fail(f"{told}\n(`python docs/sessions.py {PAGE}` renews it)", pytrace=False)

    # The page ends all that it has begun.
    assert list(Path(os.environ["TMPDIR"]).iterdir()) == []


def test_the_page_tells_of_a_conductor_and_a_zookeeper_server_that_are_killed_and_of_a_cancel():
    typed = " ".join(step.command for block in sessions.blocks(PAGE) for step in block.steps)

    assert typed.count("kill -9") == 2
    assert typed.count("ebbtide cancel") == 2
    assert "./servers start" in typed and "./servers stop" in typed


def test_the_servers_say_how_they_are_called():
    told = subprocess.run([EXAMPLE / "servers", "begin"], capture_output=True, text=True, check=False)

    assert (told.returncode, told.stderr.count("\n")) == (1, 1)


# The compose file: there is no Docker here, so that it is read and compared.


@pytest.fixture(scope="module")
def services() -> Any:
    return yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"]


def test_the_compose_file_has_what_the_issue_of_a_cluster_is(services):
    assert sorted(services) == [
        *("client", "conductor-1", "conductor-2", "postgresql", "tables"),
        *("zookeeper-1", "zookeeper-2", "zookeeper-3"),
    ]
    zookeepers = [services[f"zookeeper-{number}"] for number in (1, 2, 3)]
    assert [each["environment"]["ZOO_MY_ID"] for each in zookeepers] == ["1", "2", "3"]
    (ensemble,) = {each["environment"]["ZOO_SERVERS"] for each in zookeepers}
    assert re.findall(r"server\.(\d)=zookeeper-(\d):2888:3888;2181", ensemble) == [
        *(("1", "1"), ("2", "2"), ("3", "3"))
    ]


def test_whoever_waits_for_a_service_waits_for_one_that_there_is_and_can_be_waited_for(services):
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert services[name]["healthcheck"]["test"]
            else:
                assert services[name]["command"] == ["db", "upgrade"]


def test_postgresql_is_called_healthy_once_others_can_reach_it(services):
    """A server that makes its data first answers at its socket alone."""
    asked = services["postgresql"]["healthcheck"]["test"]

    assert asked[asked.index("-h") + 1] == "127.0.0.1"


@pytest.mark.parametrize("name", ["conductor-1", "conductor-2", "tables", "client"])
def test_ebbtide_takes_the_options_that_the_compose_file_sets(services, name):
    environment = services[name]["environment"]

    settings = load_settings(environ={"HOME": "/home/ebbtide"} | environment)

    assert settings.database == "postgresql://ebbtide@postgresql/ebbtide"
    assert settings.flow_modules == ("parcels",)
    assert (settings.signal, settings.board) == ("zookeeper", "zookeeper")
    hosts = [host.partition(":")[0] for host in settings.zookeeper_hosts.split(",")]
    assert set(hosts) < set(services)
    kept, variable = settings.zookeeper_auth.split(":")
    assert kept == "env" and environment[variable].startswith("digest:")


def test_no_password_stands_in_the_compose_file(services):
    for service in services.values():
        for name, value in service["environment"].items():
            if "PASSWORD" in name or "CREDENTIAL" in name:
                assert re.fullmatch(r"(digest:ebbtide:)?\$\{CLUSTER_PASSWORD(:\?[\w ]+)?\}", value)


def test_the_image_is_built_of_what_there_is(services):
    build = services["conductor-1"]["build"]
    context = EXAMPLE / build["context"]
    text = (context / build["dockerfile"]).read_text()

    assert context.resolve() == ROOT
    for source in re.findall(r"/source/(\S+)", text):
        assert (ROOT / source).exists()
    assert "USER ebbtide" in text and 'ENTRYPOINT ["ebbtide"]' in text
    # Conductors are told to drain, and given the time for it.
    assert services["conductor-1"]["init"] is True
    assert services["conductor-1"]["stop_grace_period"] == "2m"
