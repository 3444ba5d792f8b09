"""Hosts that are network namespaces, and the wires between them and the servers, which can be pulled out."""

import contextlib
import itertools
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.services.absence import missing
from tests.services.ports import reserved_port
from tests.services.postgresql import PostgresqlServer
from tests.services.server import folder_for
from tests.services.zookeeper import ZookeeperServer, needed_java, served_by

_RUN = Path("/run/netns")
_INTERFACES = Path("/sys/class/net")
# With the process that made it; an interface may have 15 characters.
_NAMES = re.compile(r"eb(\d+)-\d+")
# None comes twice in a process: the wires of a host that was deleted go some time after it.
_NUMBERS = itertools.count(1)


class Segment:
    """A network of this machine with a bridge, at whose address servers listen, and hosts on wires.

    Args:
        name: of the bridge.
        number: 0 to 65535; of the network, which nobody else here may have.
    """

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        # Set aside for tests of networks (RFC 2544): nobody is reached by these addresses.
        self._prefix = f"198.{18 + number // 256 % 2}.{number % 256}"
        self.network = f"{self._prefix}.0/24"
        self.address = f"{self._prefix}.1"
        self._wires: dict[str, str] = {}  # of hosts, by name
        _ip("link", "add", name, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", name)
        _ip("link", "set", name, "up")

    def attach(self, host: str) -> None:
        """Give the host a wire into this network."""
        number = len(self._wires) + 2
        near, far = f"{self.name}p{number}", f"{self.name}e{number}"
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", host)
        _ip("link", "set", near, "master", self.name, "up")
        _ip("-n", host, "addr", "add", f"{self._prefix}.{number}/24", "dev", far)
        _ip("-n", host, "link", "set", far, "up")
        self._wires[host] = near

    def pull(self, host: str) -> None:
        """Pull the wire out: nothing arrives any more, and nobody is told."""
        _ip("link", "set", self._wires[host], "down")

    def plug(self, host: str) -> None:
        """Put the wire back."""
        _ip("link", "set", self._wires[host], "up")

    def remove(self) -> None:
        _ip("link", "del", self.name)


class Network:
    """Hosts of a test's own, each on two segments: one of the store and one of the coordinators.

    A process of a host reaches the servers there and nothing else, not even this machine's loopback.
    """

    def __init__(self, hosts: int) -> None:
        with contextlib.ExitStack() as made:
            self.store = self._segment(made)
            self.coordinators = self._segment(made)
            self.hosts = [self._host(made) for _ in range(hosts)]
            self._made = made.pop_all()

    @property
    def segments(self) -> Sequence[Segment]:
        return (self.store, self.coordinators)

    def inside(self, host: str) -> list[str]:
        """What a command begins with that is to run on the host; it keeps its process id."""
        return ["nsenter", f"--net={_RUN / host}"]

    def heal(self) -> None:
        """Put every wire back."""
        for host in self.hosts:
            for segment in self.segments:
                segment.plug(host)

    def remove(self) -> None:
        """Take it all away; processes that still run there reach nobody."""
        self._made.close()

    def _name(self) -> str:
        return f"eb{os.getpid()}-{next(_NUMBERS)}"

    def _segment(self, made: contextlib.ExitStack) -> Segment:
        taken = _ip("-4", "addr")
        numbers = (random.randrange(512) for _ in itertools.count())
        number = next(n for n in numbers if f"198.{18 + n // 256}.{n % 256}." not in taken)
        segment = Segment(self._name(), number)
        made.callback(segment.remove)
        return segment

    def _host(self, made: contextlib.ExitStack) -> str:
        name = self._name()
        _ip("netns", "add", name)
        made.callback(_ip, "netns", "del", name)
        _ip("-n", name, "link", "set", "lo", "up")
        for segment in self.segments:
            segment.attach(name)
        return name


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _clear_away() -> None:
    """Remove the hosts and bridges of test sessions that were killed."""
    for folder, kind in ((_RUN, "netns"), (_INTERFACES, "link")):
        for place in folder.glob("eb*"):
            found = _NAMES.fullmatch(place.name)
            if found and not Path("/proc", found[1]).exists():
                _ip(kind, "del", place.name)


def _needs() -> None:
    """Fail or skip where no network can be made."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        missing("networks of one's own want Linux and root")
    try:
        _clear_away()
        probe = f"eb{os.getpid()}-0"
        _ip("netns", "add", probe)
        try:
            _ip("-n", probe, "link", "add", "probe", "type", "veth", "peer", "name", "other")
            subprocess.run(["nsenter", f"--net={_RUN / probe}", "true"], check=True, capture_output=True)
        finally:
            _ip("netns", "del", probe)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        missing(f"no network can be made here: {error}")


@pytest.fixture(scope="session")
def _able_to_make_networks() -> None:
    _needs()


@pytest.fixture
def network(_able_to_make_networks: None, postgresql: PostgresqlServer) -> Iterator[Network]:
    """Two hosts, on wires that can be pulled out; PostgreSQL is in one of its segments as well."""
    made = Network(2)
    try:
        with postgresql.reached_at(made.store.address, made.store.network):
            yield made
    finally:
        made.remove()


@pytest.fixture
def network_zookeeper(network: Network) -> Iterator[ZookeeperServer]:
    """A server in the other segment."""
    java, address = needed_java(), network.coordinators.address
    with (
        folder_for("zookeeper") as folder,
        reserved_port(address) as port,
        served_by(ZookeeperServer(java, folder, port, address=address)) as server,
    ):
        yield server
