"""ZooKeeper with TLS and a credential: everything of ours goes through them, and nothing tells the secret."""

import logging
import subprocess
import uuid

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from ebbtide.config import Settings
from ebbtide.errors import ConfigError
from ebbtide.jobs.boards import Notice, open_boards
from ebbtide.jobs.ensemble import Ensemble
from ebbtide.jobs.linkhealth import LinkBroken
from ebbtide.jobs.plain import open_requests
from ebbtide.jobs.signals.zookeeper import ZookeeperSignal
from ebbtide.testing import wait_until
from tests.services.zookeeper import tls_server

pytestmark = pytest.mark.sqlite_only("nothing of these asks for a store")

NOTICE = Notice("a", "copy@1", 0, 1.0)
SECRET = "open-sesame"


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def certificate(folder, name, *, signed_by, extension):
    """A certificate and its key, and both in one file, as the server wants them."""
    subject = ["-subj", f"/CN={name}"]
    openssl(
        folder,
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.csr",
        *subject,
    )
    (folder / f"{name}.ext").write_text(extension)
    openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{signed_by}.crt", "-CAkey", f"{signed_by}.key",
        "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt",
    )  # fmt: skip
    both = (folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text()
    (folder / f"{name}.pem").write_text(both)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with an authority, a server's certificate for 127.0.0.1, a client's, and another authority."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("authority", "stranger"):
        openssl(
            folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.crt",
        )  # fmt: skip
    certificate(folder, "server", signed_by="authority", extension="subjectAltName=IP:127.0.0.1\n")
    certificate(folder, "client", signed_by="authority", extension="extendedKeyUsage=clientAuth\n")
    certificate(folder, "misnamed", signed_by="authority", extension="subjectAltName=DNS:elsewhere.example\n")
    return folder


def lines(keys, name):
    return (
        "secureClientPort=PORT\nsecureClientPortAddress=127.0.0.1\n"
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n"
        f"ssl.keyStore.location={keys}/{name}.pem\nssl.keyStore.type=PEM\n"
        f"ssl.trustStore.location={keys}/authority.crt\nssl.trustStore.type=PEM\n"
        "ssl.clientAuth=need\nssl.hostnameVerification=false\nssl.clientHostnameVerification=false\n"
    )


@pytest.fixture(scope="module")
def secure(keys):
    """A server that speaks TLS, to those who have a certificate."""
    with tls_server(lines(keys, "server")) as server:
        yield server


def options(server, keys, **changed):
    given = {
        "zookeeper_hosts": f"127.0.0.1:{server.tls_port}",
        "zookeeper_path": f"/{uuid.uuid4()}",
        "zookeeper_ca_file": f"{keys}/authority.crt",
        "zookeeper_cert_file": f"{keys}/client.crt",
        "zookeeper_key_file": f"{keys}/client.key",
        "board": "zookeeper",
    }
    return given | changed


def settings(**given):
    return Settings(database="sqlite:///none.db", **given)


def posts(given):
    board = open_boards(given)()
    try:
        board.post(NOTICE)
        return [pinned.notice for pinned in board.pinned()]
    finally:
        board.close()


def rings(given):
    listener, ringer = (ZookeeperSignal(Ensemble.of(given)) for _ in range(2))
    try:
        wait_until(lambda: listener.changed() is None or listener.listening, "it listens")
        listener.changed()
        ringer.ring("a")
        wait_until(listener.changed, "it rings")
    finally:
        listener.close()
        ringer.close()
    return True


def test_board_signal_and_plain_requests_go_over_tls(secure, keys, monkeypatch):
    given = options(secure, keys)
    job = str(uuid.uuid4())
    for name in ("ca_file", "cert_file", "key_file"):
        monkeypatch.setenv(f"EBBTIDE_ZOOKEEPER_{name.upper()}", given[f"zookeeper_{name}"])

    with open_requests(f"zookeeper://{given['zookeeper_hosts']}{given['zookeeper_path']}") as requests:
        requests.request(job, reason="enough")
        found = requests.check(job)

    assert posts(settings(**given)) == [NOTICE]
    assert rings(settings(**given))
    assert found is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"zookeeper_ca_file": "stranger.crt"},
        {"zookeeper_cert_file": "", "zookeeper_key_file": ""},
        {"zookeeper_ca_file": "", "zookeeper_cert_file": "", "zookeeper_key_file": ""},
    ],
    ids=["a server that a stranger has signed", "no certificate of ours", "no TLS"],
)
def test_without_trust_in_both_directions_nothing_is_said(secure, keys, changed):
    named = {name: f"{keys}/{file}" if file else "" for name, file in changed.items()}
    board = open_boards(settings(**options(secure, keys, **named)))

    with pytest.raises(LinkBroken):
        board()


def test_a_certificate_of_another_name_is_refused_and_it_is_said_why(keys):
    with tls_server(lines(keys, "misnamed")) as server:
        open_board = open_boards(settings(**options(server, keys)))
        with pytest.raises(LinkBroken) as broken:
            open_board()

    assert str(broken.value).startswith("TLS: ")
    assert "certificate verify failed" in str(broken.value)


@pytest.fixture
def bearer(zookeeper, zookeeper_path, tmp_path):
    """The options of who has the credential."""
    kept = tmp_path / "credential"
    kept.write_text(f"digest:ann:{SECRET}\n")
    return {
        "zookeeper_hosts": zookeeper.hosts,
        "zookeeper_path": zookeeper_path,
        "zookeeper_auth": f"file:{kept}",
        "board": "zookeeper",
    }


def test_what_the_bearer_of_a_credential_makes_is_closed_to_others(
    bearer, zookeeper_client, zookeeper_path, monkeypatch
):
    job = str(uuid.uuid4())
    monkeypatch.setenv("EBBTIDE_ZOOKEEPER_AUTH", bearer["zookeeper_auth"])
    assert posts(settings(**bearer)) == [NOTICE]
    assert rings(settings(**bearer))
    with open_requests(f"zookeeper://{bearer['zookeeper_hosts']}{zookeeper_path}") as requests:
        requests.request(job, reason="enough")
    kinds = [f"{zookeeper_path}/{kind}" for kind in ("board", "signal", "requests")]
    nodes = [zookeeper_path, *kinds, f"{zookeeper_path}/requests/{job}"]
    below = f"{zookeeper_path}/board"
    nodes += [f"{below}/{name}" for name in children(bearer, below)]

    for node in nodes:
        with pytest.raises(NoAuthError):
            zookeeper_client.get(node)
    assert len(nodes) == 6
    with pytest.raises(LinkBroken):
        posts(settings(**(bearer | {"zookeeper_auth": ""})))


def children(bearer, path):
    """The children of a node, asked for by somebody who knows the password, past all our code."""
    client = KazooClient(hosts=bearer["zookeeper_hosts"], auth_data=[("digest", f"ann:{SECRET}")])
    client.start()
    try:
        return client.get_children(path)
    finally:
        client.stop()
        client.close()


def test_the_credential_is_never_told(bearer, zookeeper, caplog):
    chosen = settings(**bearer)
    caplog.set_level(logging.DEBUG)

    posts(chosen)
    zookeeper.stop()
    with pytest.raises(LinkBroken) as broken:
        posts(chosen)

    told = [caplog.text, repr(chosen), str(broken.value), repr(Ensemble.of(chosen))]
    assert not any(SECRET in text for text in told)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"zookeeper_ca_file": "/no/such"},
            "zookeeper_ca_file /no/such cannot be read: no such file or directory",
        ),
        ({"zookeeper_ca_file": __file__}, f"TLS for ZooKeeper cannot be used with {__file__}: "),
        ({"zookeeper_cert_file": __file__}, "go together: set both, or none"),
        ({"zookeeper_cert_file": __file__, "zookeeper_key_file": __file__}, "set zookeeper_ca_file as well"),
        (
            {"zookeeper_auth": "env:NOT_SET_HERE"},
            "zookeeper_auth env:NOT_SET_HERE cannot be used: it is not set",
        ),
        ({"zookeeper_auth": "env:BARE"}, "should read digest:USER:PASSWORD"),
    ],
)
def test_what_cannot_be_used_is_said_at_once(changed, told, monkeypatch):
    monkeypatch.setenv("BARE", SECRET)

    with pytest.raises(ConfigError) as refused:
        open_boards(settings(board="zookeeper", **changed))

    assert told in str(refused.value)
    assert SECRET not in str(refused.value)
