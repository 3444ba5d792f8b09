"""Hosts of a test's own: what they reach, what a pulled wire cuts off, and that nothing of them is left."""

import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide.testing import wait_until

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.5)"


@pytest.fixture
def reaches(network):
    """Whether a host can connect to an address."""

    def ask(host, address, port):
        command = [*network.inside(host), sys.executable, "-c", CONNECT, address, str(port)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    return ask


def test_a_host_reaches_the_servers_of_its_segments_and_not_this_machines_loopback(
    network, postgresql, network_zookeeper, reaches
):
    for host in network.hosts:
        assert reaches(host, network.store.address, postgresql.port)
        assert reaches(host, network.coordinators.address, network_zookeeper.port)
        assert not reaches(host, "127.0.0.1", postgresql.port)


def test_a_pulled_wire_cuts_off_one_host_from_one_segment_until_it_is_put_back(
    network, postgresql, network_zookeeper, reaches
):
    one, two = network.hosts
    network.store.pull(one)

    assert not reaches(one, network.store.address, postgresql.port)
    assert reaches(one, network.coordinators.address, network_zookeeper.port)
    assert reaches(two, network.store.address, postgresql.port)
    network.heal()
    # Whoever was asked for while the wire was out is asked for again once a second.
    wait_until(lambda: reaches(one, network.store.address, postgresql.port), "it is reached again")


def test_nothing_of_it_is_left(network):
    namespaces = [Path("/run/netns") / host for host in network.hosts]
    bridges = [Path("/sys/class/net") / segment.name for segment in network.segments]
    assert all(place.exists() for place in [*namespaces, *bridges])

    network.remove()

    assert not any(place.exists() for place in [*namespaces, *bridges])
