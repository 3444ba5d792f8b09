"""ZooKeeper servers of the test session's own, one or three, and a path in them for single tests."""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.absence import missing
from tests.services.ports import HOST, reserved_port
from tests.services.server import PATIENCE_SECONDS, Server, folder_for

TICK_SECONDS = 0.2
# What a client may ask for; the server would allow 2 to 20 ticks.
SESSION_SECONDS = (0.4, 60.0)
_JAR = Path("/usr/share/java/zookeeper.jar")
# For TLS alone; Debian's package does not name it among the jars that it needs.
_CODEC = Path("/usr/share/java/netty-codec.jar")
_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_LOG4J = """
log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c{1} %m%n
"""


class ZookeeperServer(Server):
    """One server in a folder of its own. It stands still until `start`; may be restarted as often as wanted.

    Args:
        java: the program.
        folder: where everything is kept.
        port: of clients; free, and nobody else's meanwhile.
        number: of the server in its cluster.
        further: lines of its configuration, such as those that name all servers of a cluster.
        address: where clients reach it.
    """

    def __init__(
        self,
        java: str,
        folder: Path,
        port: int,
        number: int = 1,
        further: str = "",
        *,
        address: str = HOST,
    ) -> None:
        super().__init__(folder)
        self.port = port
        self.tls_port = 0  # where it has one
        self._java = java
        self._number = number
        self._further = further
        self._address = address

    def initialise(self) -> None:
        """Write what it reads when it starts; its data is empty."""
        least, most = (int(1000 * seconds) for seconds in SESSION_SECONDS)
        (self.folder / "data").mkdir()
        (self.folder / "data" / "myid").write_text(str(self._number))
        (self.folder / "log4j.properties").write_text(_LOG4J)
        (self.folder / "zoo.cfg").write_text(
            f"tickTime={int(1000 * TICK_SECONDS)}\n"
            f"minSessionTimeout={least}\nmaxSessionTimeout={most}\n"
            "initLimit=50\nsyncLimit=25\nmaxClientCnxns=0\n"
            f"dataDir={self.folder}/data\nclientPort={self.port}\nclientPortAddress={self._address}\n"
            "admin.enableServer=false\n4lw.commands.whitelist=srvr,ruok\n"
            # Quick instead of safe from power cuts: what a test kills is the server, not the machine.
            f"forceSync=no\n{self._further}"
        )

    def start(self, *, wait: bool = True) -> None:
        """Returns once it serves clients.

        Args:
            wait: False: returns at once; a cluster serves nobody before most of it runs.
        """
        command = [self._java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += ["-Djava.net.preferIPv4Stack=true", "-Dzookeeper.jmx.log4j.disable=true"]
        command += ["-Dzookeeper.forceSync=no"]
        command += ["-cp", f"{self.folder}:{_JAR}:{_CODEC}", _MAIN, str(self.folder / "zoo.cfg")]
        self._launch(command)
        if wait:
            self.await_ready()

    def stop(self) -> None:
        """SIGTERM; returns once it has ended, and nothing happens when it has already."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; returns once it has ended."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start; its data stays."""
        self.stop()
        self.start()

    def lose_data(self) -> None:
        """Restart without anything that was stored."""
        self.kill()
        shutil.rmtree(self.folder / "data" / "version-2")
        self.start()

    def settle(self) -> None:
        """Run as usual, whatever a test has done."""
        self.go_on()
        if not self.running:
            self.kill()  # reaps it
            self.start()

    @property
    def mode(self) -> str:
        """`standalone`, `leader` or `follower`; empty while it serves nobody."""
        here = (self._address, self.port)
        with contextlib.suppress(OSError), socket.create_connection(here, 5.0) as asking:
            asking.sendall(b"srvr")
            told = b"".join(iter(lambda: asking.recv(4096), b"")).decode()
            for line in told.splitlines():
                if line.startswith("Mode: "):
                    return line.removeprefix("Mode: ")
        return ""

    @property
    def hosts(self) -> str:
        return f"{self._address}:{self.port}"

    def await_ready(self) -> None:
        """Wait until it serves clients."""
        self._await_ready(lambda: None if self.mode else "it serves nobody")


class ZookeeperCluster:
    """Three servers that elect one of them."""

    def __init__(self, servers: list[ZookeeperServer]) -> None:
        self.servers = servers

    @property
    def hosts(self) -> str:
        return ",".join(server.hosts for server in self.servers)

    @property
    def leader(self) -> ZookeeperServer:
        """Wait until there is one; returns it."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while time.monotonic() < give_up:
            for server in self.servers:
                if server.running and server.mode == "leader":
                    return server
            pause.wait(0.02)
        raise TimeoutError("the cluster elects nobody")

    @property
    def followers(self) -> list[ZookeeperServer]:
        leader = self.leader
        return [server for server in self.servers if server is not leader]

    def start(self) -> None:
        """Returns once all of them serve clients."""
        for server in self.servers:
            if not server.running:
                server.kill()  # reaps it
                server.start(wait=False)
        for server in self.servers:
            server.await_ready()

    def stop(self) -> None:
        for server in self.servers:
            server.kill()

    def settle(self) -> None:
        """Run as usual, whatever a test has done."""
        for server in self.servers:
            server.go_on()
        self.start()


def needed_java() -> str:
    """The program that ZooKeeper runs in, where all it wants is here."""
    java = shutil.which("java", path=os.defpath)
    if java is None or not _JAR.exists():
        missing(f"no ZooKeeper here: it wants java on the PATH and {_JAR}")
    return java


@contextlib.contextmanager
def served_by(server: ZookeeperServer) -> Iterator[ZookeeperServer]:
    """A new server, which serves for the block."""
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def tls_server(further: str) -> Iterator[ZookeeperServer]:
    """One more server, with a TLS port: ``PORT`` in the lines of configuration stands for that port. It is
    the server's attribute `tls_port` as well.
    """
    java = needed_java()
    with folder_for("zookeeper") as folder, reserved_port() as port, reserved_port() as tls_port:
        server = ZookeeperServer(java, folder, port, further=further.replace("PORT", str(tls_port)))
        server.tls_port = tls_port
        with served_by(server):
            yield server


@pytest.fixture(scope="session")
def _zookeeper_of_session() -> Iterator[ZookeeperServer]:
    java = needed_java()
    with (
        folder_for("zookeeper") as folder,
        reserved_port() as port,
        served_by(ZookeeperServer(java, folder, port)) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def _zookeepers_of_session() -> Iterator[ZookeeperCluster]:
    java = needed_java()
    with contextlib.ExitStack() as held:
        folder = held.enter_context(folder_for("zookeeper"))
        ports = [[held.enter_context(reserved_port()) for _ in range(3)] for _ in range(3)]
        lines = "".join(
            f"server.{number}={HOST}:{quorum}:{election}\n"
            for number, (_, quorum, election) in enumerate(ports, start=1)
        )
        servers = []
        for number, (port, _, _) in enumerate(ports, start=1):
            own = folder / str(number)
            own.mkdir()
            servers.append(ZookeeperServer(java, own, port, number, lines))
            servers[-1].initialise()
        cluster = ZookeeperCluster(servers)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def zookeeper(_zookeeper_of_session: ZookeeperServer) -> Iterator[ZookeeperServer]:
    """The one server of the session. Whatever a test does to it, the next one finds it as usual."""
    yield _zookeeper_of_session
    _zookeeper_of_session.settle()


@pytest.fixture
def zookeeper_cluster(_zookeepers_of_session: ZookeeperCluster) -> Iterator[ZookeeperCluster]:
    """Three servers, for those who ask. Whatever a test does to them, the next one finds them as usual."""
    yield _zookeepers_of_session
    _zookeepers_of_session.settle()


_numbers = itertools.count(1)


@pytest.fixture
def zookeeper_path() -> str:
    """A path that nobody else uses; it does not exist yet."""
    return f"/test-{next(_numbers)}"


@pytest.fixture
def zookeeper_client(zookeeper: ZookeeperServer) -> Iterator[Any]:
    """A client of the one server, past all our code."""
    from kazoo.client import KazooClient  # here: some tests run where nothing but pytest is installed

    client = KazooClient(hosts=zookeeper.hosts)
    client.start()
    yield client
    client.stop()
    client.close()
