"""By which names the server may be asked: a name that leads here by somebody else's doing is none of them."""

import socket

import pytest
from starlette.testclient import TestClient

from ebbtide.api import create_app
from ebbtide.api.limits import Limits
from ebbtide.api.server import bound, hosts_of
from ebbtide.config import load_settings


@pytest.fixture
def ask(poster):
    app = create_app(poster, hosts=["localhost", "127.0.0.1", "[::1]", "jobs.example.org"])
    client = TestClient(app)
    return lambda host, path="/healthz": client.get(path, headers={"Host": host})


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8765", "127.0.0.1:1", "[::1]:8765", "[::1]", "jobs.example.org"]
)
def test_its_own_names_are_answered_with_any_port(ask, host):
    assert ask(host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8765",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
        ),
        *("localhost@evil.example", "localhost:80:80", "", "[::1", "169.254.169.254", "jobs.example.org."),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/api/v1/jobs", "/login/code", "/nothing"])
def test_any_other_name_is_refused_wherever_it_leads(ask, host, path):
    response = ask(host, path)

    assert (response.status_code, response.json()["type"]) == (400, "urn:ebbtide:problem:unknown-host")
    assert "evil" not in response.text
    assert response.headers["content-security-policy"].startswith("default-src 'none'")


def test_what_a_proxy_says_of_the_name_is_of_no_account(poster):
    client = TestClient(create_app(poster, hosts=["localhost"]))

    told = client.get("/healthz", headers={"Host": "evil.example", "X-Forwarded-Host": "localhost"})

    assert told.status_code == 400


def test_on_loopback_the_names_of_the_machine_itself_are_all_unless_told_otherwise():
    with bound("127.0.0.1", 0) as listener:
        assert hosts_of(listener, ()) == {"localhost", "127.0.0.1", "[::1]"}
        assert hosts_of(listener, ("Jobs.example.org",)) == {
            *("localhost", "127.0.0.1", "[::1]", "jobs.example.org")
        }
    with bound("127.0.0.2", 0) as listener:
        assert "127.0.0.2" in hosts_of(listener, ())


def test_elsewhere_any_name_will_do_until_some_are_told():
    with socket.create_server(("0.0.0.0", 0)) as listener:
        assert hosts_of(listener, ()) is None
        assert "jobs.example.org" in hosts_of(listener, ("jobs.example.org",))


def test_the_limits_are_those_of_the_options(tmp_path):
    environ = {"HOME": str(tmp_path), "EBBTIDE_REQUESTS_PER_SECOND": "3", "EBBTIDE_CANCELS_PER_SECOND": "5"}
    told = Limits.of(load_settings(environ=environ, streams_per_token=7))
    usual = Limits.of(load_settings(environ={"HOME": str(tmp_path)}))

    assert (told.requests.per_second, told.requests.burst) == (3, 6)
    assert (told.cancels.per_second, told.cancels.burst, told.streams) == (5, 50, 7)
    assert usual == Limits()
