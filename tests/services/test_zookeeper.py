"""The ZooKeeper servers of the session: a path for each test, and restarts that tests can count on."""

import socket

import pytest
from kazoo.client import KazooClient

from tests.services.ports import HOST


def _read(hosts, path):
    client = KazooClient(hosts=hosts)
    client.start()
    try:
        return client.get(path)[0] if client.exists(path) else None
    finally:
        client.stop()
        client.close()


def test_it_stands_alone_and_a_test_has_a_path_of_its_own(zookeeper, zookeeper_client, zookeeper_path):
    assert zookeeper.mode == "standalone"
    assert zookeeper_client.exists(zookeeper_path) is None


def test_a_restart_keeps_port_and_data_and_a_loss_keeps_nothing(zookeeper, zookeeper_client, zookeeper_path):
    zookeeper_client.create(zookeeper_path, b"a")

    zookeeper.restart()
    kept = _read(zookeeper.hosts, zookeeper_path)
    zookeeper.kill()
    zookeeper.start()
    kept_again = _read(zookeeper.hosts, zookeeper_path)
    zookeeper.lose_data()

    assert (kept, kept_again, _read(zookeeper.hosts, zookeeper_path)) == (b"a", b"a", None)


def test_nobody_listens_while_it_is_stopped(zookeeper):
    zookeeper.stop()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, zookeeper.port))
    assert zookeeper.mode == ""


def test_a_cluster_elects_another_leader_and_without_most_of_it_nobody(zookeeper_cluster, zookeeper_path):
    client = KazooClient(hosts=zookeeper_cluster.hosts)
    client.start()
    try:
        client.create(zookeeper_path, b"a")
        first = zookeeper_cluster.leader
        first.kill()
        second = zookeeper_cluster.leader
        kept = client.retry(client.get, zookeeper_path)[0]
        for follower in zookeeper_cluster.followers:
            follower.kill()
    finally:
        client.stop()
        client.close()

    assert first is not second
    assert kept == b"a"
    zookeeper_cluster.settle()
    assert zookeeper_cluster.leader.running
