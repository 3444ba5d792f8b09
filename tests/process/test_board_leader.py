"""The conductor that keeps the board is killed, or cut off from it: another one keeps it; all jobs run once.

Promises: P6, P9, P10.
"""

import signal

import pytest

from ebbtide.config import Settings
from ebbtide.jobs import Poster
from ebbtide.jobs.boards import open_boards

LEASE = (0.3, 1.5, 3.0)


@pytest.fixture(params=["redis", "zookeeper"])
def options(request, board_options):
    """Those of each board, and of where it is."""
    return board_options(request.param)


@pytest.fixture
def settings(stage, options):
    return Settings(database=stage.database, **options)


@pytest.fixture
def poster(stage, flows, settings):
    """A client with the same board as the conductors."""
    with Poster(registry=flows.registry, settings=settings) as opened:
        stage.poster.close()
        stage.poster = opened
        yield opened


@pytest.fixture
def board(settings):
    opened = open_boards(settings)()
    yield opened
    opened.close()


def on(board):
    return {each.notice.job_id for each in board.pinned()}


def leader(ask):
    """The pid of the conductor that leads, once one does."""
    rows = ask("SELECT pid FROM conductors WHERE id = (SELECT owner FROM leaders WHERE name = 'outbox')")
    return rows[0][0] if rows else None


def test_when_the_leader_is_killed_another_one_keeps_the_board(stage, poster, options, board, ask):
    pair = [stage.conductor(lease=LEASE, runners=1, sweep_seconds=0.3, **options) for _ in range(2)]
    stage.wait_until(lambda: leader(ask), "one to lead")
    busy = [stage.post("b:wait") for _ in pair]
    for job in busy:
        stage.await_effect(job, "waiting", "b")
    waiting = [stage.post("c") for _ in range(3)]
    stage.wait_until(lambda: on(board) == {job.id for job in waiting}, "the others to stand on the board")
    first = leader(ask)

    (killed,) = [each for each in pair if each.pid == first]
    (other,) = [each for each in pair if each is not killed]
    killed.kill(signal.SIGKILL)
    stage.wait_until(lambda: leader(ask) == other.pid, "the other one to lead")
    board.remove(board.pinned())
    stage.wait_until(lambda: on(board) >= {job.id for job in waiting}, "them to stand there again")
    for job in busy:
        poster.cancel(job.id, "enough")

    for job in waiting:
        with stage.explained(job):
            assert stage.ended(job).state == "completed"
            assert stage.told(job, "begin") == ["begin c"]
    assert [stage.ended(job).state for job in busy] == ["cancelled"] * 2
    stage.wait_until(lambda: not on(board), "an empty board")


def test_a_leader_that_does_not_reach_the_board_leaves_it_to_one_that_does(
    stage, poster, options, board, ask, proxy_to, redis, zookeeper
):
    kind = options["board"]
    proxy = proxy_to({"redis": redis, "zookeeper": zookeeper}[kind].port)
    if kind == "redis":
        by_proxy = options | {"redis_url": proxy.url(options["redis_url"])}
    else:
        by_proxy = options | {"zookeeper_hosts": f"127.0.0.1:{proxy.port}"}
    cut_off = stage.conductor(lease=LEASE, runners=1, sweep_seconds=0.3, **by_proxy)
    stage.wait_until(lambda: leader(ask) == cut_off.pid, "it to lead")
    other = stage.conductor(lease=LEASE, runners=1, sweep_seconds=0.3, **options)
    busy = [stage.post("b:wait") for _ in (cut_off, other)]
    for job in busy:
        stage.await_effect(job, "waiting", "b")
    waiting = stage.post("c")

    proxy.refuse()
    proxy.cut()
    stage.wait_until(lambda: leader(ask) == other.pid, "the other one to lead")
    board.remove(board.pinned())
    stage.wait_until(lambda: on(board) == {waiting.id}, "the job to stand there again")

    for job in busy:
        poster.cancel(job.id, "enough")
    assert stage.ended(waiting).state == "completed"
