"""What is wrong with TaskFlow's drivers as they are, each shown beside our board, which is free of it.

When one of these fails at its stock half, TaskFlow has mended something: see `ebbtide/jobs/boards/`.
"""

import contextlib
import json
import warnings

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE
from taskflow import exceptions

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's conductors import
    from taskflow.jobs.backends.impl_zookeeper import ZookeeperJobBoard

from taskflow.jobs.backends.impl_redis import RedisJobBoard
from taskflow.utils import redis_utils

from ebbtide.jobs.boards import Notice
from ebbtide.jobs.linkhealth import LinkBroken

pytestmark = pytest.mark.sqlite_only("nothing of these asks for a store")

PATIENCE_SECONDS = 30.0


@pytest.fixture
def stock_redis(redis, redis_channel):
    opened = RedisJobBoard("stock", {"host": "127.0.0.1", "port": redis.port, "namespace": redis_channel})
    opened.connect()
    yield opened
    opened.close()


@pytest.fixture
def stock_zookeeper(zookeeper, zookeeper_path):
    client = KazooClient(hosts=zookeeper.hosts, timeout=60.0)
    opened = ZookeeperJobBoard(
        "stock", {"path": f"{zookeeper_path}/stock", "check_compatible": False}, client=client
    )
    opened.connect()
    yield opened
    zookeeper.go_on()
    client.stop()
    client.close()
    opened.close()


def notice(name, priority=0):
    return Notice(name, "copy@1", priority, 1.0)


def names(pinned):
    return [each.notice.job_id for each in pinned if each.notice is not None]


def test_a_claim_on_redis_never_ends(stock_redis, boards):
    job = stock_redis.post("a")
    stock_redis.claim(job, "dead")
    ours = boards("redis")
    ours.post(notice("a"))
    (there,) = ours.pinned()
    ours.claim(there, "dead")

    assert job.expires_in() == redis_utils.DOES_NOT_EXPIRE
    assert 0 < there.job.expires_in() <= 10.0


def test_who_owns_an_unclaimed_job_cannot_be_asked_on_redis(stock_redis, boards):
    job = stock_redis.post("a")
    ours = boards("redis")
    ours.post(notice("a"))

    with pytest.raises(TypeError):
        stock_redis.find_owner(job)
    assert [each.claimed for each in ours.pinned()] == [False]


def test_one_unreadable_job_on_redis_hides_all_others_and_is_deleted(stock_redis, boards):
    stock_redis.post("a")
    ours = boards("redis")
    ours.post(notice("a"))
    for driver in (stock_redis, ours._driver):
        driver._client.hset(driver.listings_key, "rubbish", b"\xc1")

    with pytest.raises(exceptions.JobFailure):
        list(stock_redis.iterjobs())
    assert stock_redis.job_count == 1
    assert names(ours.pinned()) == ["a"]
    assert ours.count() == 2


def test_the_newest_is_first_on_redis(stock_redis, boards):
    ours = boards("redis")
    for name in "abc":
        stock_redis.post(name)
        ours.post(notice(name))

    assert [job.name for job in stock_redis.iterjobs()] == ["c", "b", "a"]
    assert names(ours.pinned()) == ["a", "b", "c"]


def test_redis_before_8_is_not_asked_for_what_it_does_not_have(redis, boards):
    """As redis-py 8 does on each new connection, unless it is told otherwise."""
    ours = boards("redis")

    def refused():
        return ours._client.info("errorstats").get("errorstat_ERR")

    before = refused()
    boards("redis").post(notice("a"))
    after = refused()
    redis.call("PING")  # by a client of redis-py's own making

    assert after == before
    assert refused() != before


def test_the_least_urgent_is_first_on_zookeeper(stock_zookeeper, boards):
    ours = boards("zookeeper")
    for name, word, priority in [("low", "LOW", -1), ("normal", "NORMAL", 0), ("high", "HIGH", 1)]:
        stock_zookeeper.post(name, priority=word)
        ours.post(notice(name, priority))

    assert [job.name for job in stock_zookeeper.iterjobs(ensure_fresh=True)] == ["low", "normal", "high"]
    assert names(ours.pinned()) == ["high", "normal", "low"]


def test_a_server_of_today_refuses_to_be_checked(zookeeper, zookeeper_path, boards):
    stock = ZookeeperJobBoard("stock", {"path": f"{zookeeper_path}/stock", "hosts": zookeeper.hosts})

    with pytest.raises(exceptions.JobFailure, match="Failed to do post-connection initialization"):
        stock.connect()
    assert boards("zookeeper").count() == 0


def test_a_credential_in_its_configuration_opens_and_closes_nothing_on_zookeeper(
    zookeeper, zookeeper_client, zookeeper_path, boards, tmp_path
):
    who = {"auth_data": [("digest", "ann:open-sesame")], "default_acl": CREATOR_ALL_ACL}
    place = {"path": f"{zookeeper_path}/stock", "hosts": zookeeper.hosts, "check_compatible": False}
    kept = tmp_path / "credential"
    kept.write_text("digest:ann:open-sesame")
    kept.chmod(0o600)

    with contextlib.closing(ZookeeperJobBoard("stock", place | who)) as stock:
        stock.connect()
    boards("zookeeper", zookeeper_auth=f"file:{kept}")

    assert zookeeper_client.get_acls(f"{zookeeper_path}/stock")[0] == OPEN_ACL_UNSAFE
    with pytest.raises(NoAuthError):
        zookeeper_client.get_children(f"{zookeeper_path}/board")


class Counted(str):
    """A path that counts how often it is compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other):
        Counted.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_the_list_is_gone_through_once_for_each_job_in_it_on_zookeeper(stock_zookeeper, boards, monkeypatch):
    """In comparisons, as time says little: for 60 jobs some 1,800 against a few for each."""
    jobs, ours = 60, boards("zookeeper")
    for number in range(jobs):
        ours.post(notice(str(number)))
    ours.pinned()
    children = [f"job{number:010}" for number in range(jobs)]
    known = {Counted(f"{stock_zookeeper.path}/{child}"): object() for child in children}
    monkeypatch.setattr(stock_zookeeper, "_known_jobs", known)
    stock_zookeeper._on_job_posting(children)
    stock = Counted.comparisons

    learned = {Counted(path): job for path, job in ours._driver.known.items()}
    monkeypatch.setattr(ours._driver, "_known_jobs", learned)
    Counted.comparisons = 0
    found = ours.pinned()

    assert len(found) == jobs
    assert stock >= jobs * jobs / 2
    assert Counted.comparisons <= 4 * jobs


def test_a_job_that_is_consumed_elsewhere_leaves_its_lock_behind_on_zookeeper(
    stock_zookeeper, boards, zookeeper_client
):
    job = stock_zookeeper.post("a")
    stock_zookeeper.claim(job, "one")
    zookeeper_client.delete(job.path)
    with pytest.raises(exceptions.NotFound):
        stock_zookeeper.consume(job, "one")
    ours = boards("zookeeper")
    ours.post(notice("a"))
    (there,) = ours.pinned()
    ours.claim(there, "one")
    zookeeper_client.delete(there.job.path)
    ours.remove([there])

    assert zookeeper_client.exists(job.lock_path) is not None
    assert zookeeper_client.exists(there.job.lock_path) is None


def test_a_stalled_server_holds_the_stock_link_which_says_that_all_is_well(
    stock_zookeeper, boards, zookeeper
):
    ours = boards("zookeeper")
    zookeeper.stand_still()

    with pytest.raises(LinkBroken):
        ours.post(notice("a"))
    assert stock_zookeeper.connected


def expire(client):
    """End a session from the server's side: whoever closes one with its id and password ends it for all."""
    hosts = ",".join(f"{host}:{port}" for host, port in client.hosts)
    twin = KazooClient(hosts=hosts, client_id=client.client_id)
    twin.start()
    twin.stop()
    twin.close()


def test_after_its_session_ended_the_stock_board_says_it_is_not_connected_for_good(
    stock_zookeeper, boards, zookeeper
):
    ours = boards("zookeeper")
    expire(stock_zookeeper._client)
    expire(ours._session.client)

    stock_zookeeper._client.retry(stock_zookeeper._client.get_children, stock_zookeeper.path)
    with pytest.raises(LinkBroken):
        for _ in range(1000):
            ours.count()
    again = boards("zookeeper")

    assert stock_zookeeper._client.connected
    assert not stock_zookeeper.connected
    assert again.count() == 0


def test_what_is_on_the_board_holds_no_more_than_a_notice(boards, zookeeper_client):
    ours = boards("zookeeper")
    ours.post(notice("a"))
    (there,) = ours.pinned()

    posting = json.loads(zookeeper_client.get(there.job.path)[0])

    assert posting["details"] == {"job": "a", "flow": "copy@1", "priority": 0, "due_at": 1.0}
