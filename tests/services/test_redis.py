"""The Redis server of the session: a database for each test, and restarts that tests can count on."""

import socket

import pytest
import redis as client_library

from tests.services.ports import HOST
from tests.services.proxy import Stall


def test_it_listens_on_loopback_at_a_port_of_its_own(redis):
    assert redis.port != 6379
    assert redis.call("CONFIG", "GET", "bind")[b"bind"] == HOST.encode()


def test_a_database_is_empty_and_a_test_s_own(redis, redis_database):
    number = int(redis_database.rpartition("/")[2])

    redis.call("SET", "a", "b", database=number)

    assert redis.call("DBSIZE", database=number) == 1
    assert redis.call("DBSIZE", database=number + 1) == 0


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_port_and_data_and_a_loss_keeps_nothing(redis, mode):
    redis.call("SET", "a", "b")

    redis.restart(mode)
    kept = redis.call("GET", "a")
    redis.lose_data()

    assert (kept, redis.call("GET", "a")) == (b"b", None)


def test_nobody_listens_while_it_is_stopped(redis):
    redis.stop()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, redis.port))


def test_options_are_gone_for_the_next_test(redis):
    redis.restart(requirepass="secret")
    with pytest.raises(client_library.AuthenticationError):
        redis.call("GET", "a")

    redis.settle()

    assert redis.call("GET", "nothing") is None


def test_it_may_stand_still_and_the_proxy_stands_before_it(redis, proxy_to):
    proxy = proxy_to(redis.port)
    with client_library.Redis(host=HOST, port=proxy.port, socket_timeout=0.2, retry=None) as far:
        assert far.ping()
        proxy.set(Stall())
        with pytest.raises(client_library.TimeoutError):
            far.ping()
    redis.stand_still()
    with (
        client_library.Redis(host=HOST, port=redis.port, socket_timeout=0.2, retry=None) as near,
        pytest.raises(client_library.TimeoutError),
    ):
        near.ping()
    redis.go_on()

    assert redis.call("PING")
