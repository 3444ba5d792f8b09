"""What every board does: notices that one at a time may take down, the best first, and no promise beyond."""

import contextlib
import threading

import pytest

from ebbtide.config import Settings
from ebbtide.errors import ConfigError
from ebbtide.jobs.boards import BOARDS, Notice, open_boards, open_postings
from ebbtide.jobs.linkhealth import LinkBroken
from tests.services.proxy import Stall

KINDS = ("zookeeper", "redis")
PATIENCE_SECONDS = 30.0

pytestmark = pytest.mark.sqlite_only("nothing of these asks for a store")


@pytest.fixture(params=KINDS)
def kind(request):
    """The board that this test is about."""
    return request.param


@pytest.fixture
def board(boards, kind):
    return boards(kind)


@pytest.fixture
def server(kind, request):
    return request.getfixturevalue(kind)


def notice(name, priority=0, due_at=100.0, key="copy@1"):
    return Notice(name, key, priority, due_at)


def names(pinned):
    return [None if each.notice is None else each.notice.job_id for each in pinned]


def put_rubbish(kind, board, request):
    """Something that nobody of ours has written."""
    if kind == "redis":
        board._client.hset(board._driver.listings_key, "rubbish", b"\xc1")
        return
    client = request.getfixturevalue("zookeeper_client")
    for data in (b"rubbish", b'{"uuid": "a", "name": "b", "details": {"job": 7}}'):
        client.create(f"{board._path}/job", data, sequence=True)


def test_every_board_that_there_is_is_tested_here():
    assert {*KINDS, "none"} == set(BOARDS)


def test_a_board_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match="board pigeon is not known; known: none, zookeeper, redis"):
        open_boards(replace_board("pigeon"))


def replace_board(name):
    settings = Settings(database="sqlite:///none.db")
    object.__setattr__(settings, "board", name)
    return settings


def test_an_empty_board_has_nothing(board):
    assert (board.count(), board.pinned()) == (0, [])


def test_what_one_posts_the_others_find_as_it_was(boards, kind, board):
    posted = notice("a", priority=-7, due_at=123.5, key="a-flow@12")

    board.post(posted)

    (found,) = boards(kind).pinned()
    assert (found.notice, found.claimed) == (posted, False)
    assert boards(kind).count() == 1


def test_the_best_is_first_by_exact_priority_then_by_when_it_is_due_then_by_when_it_was_posted(
    boards, kind, board
):
    for name, priority, due_at in [
        ("low", -1, 1.0),
        ("old", 1, 50.0),
        ("new", 1, 60.0),
        ("best", 2, 99.0),
        ("first", 0, 7.0),
        ("second", 0, 7.0),
    ]:
        board.post(notice(name, priority, due_at))

    assert names(boards(kind).pinned()) == ["best", "old", "new", "first", "second", "low"]


def test_a_client_posts_as_many_as_the_window_has_room_for_the_best_of_them(kind, board, board_options):
    """The rest stays in the ledger, and is posted by the outbox once there is room."""
    board.post(notice("there"))
    settings = Settings(database="sqlite:///none.db", board_window=3, **board_options(kind))

    # Under its lock, so that they are sent together.
    with contextlib.closing(open_postings(settings)) as postings, postings._told:
        for name, priority in (("a", 1), ("b", 9), ("c", 5), ("d", 0)):
            postings.put(name, notice(name, priority))

    assert names(board.pinned()) == ["b", "c", "there"]


def test_one_at_a_time_claims_and_the_others_see_it(boards, kind, board):
    other = boards(kind)
    board.post(notice("a"))
    (mine,), (theirs,) = board.pinned(), other.pinned()

    claims = [board.claim(mine, "one"), other.claim(theirs, "two")]

    assert claims == [True, False]
    assert [each.claimed for each in other.pinned()] == [True]


def test_what_is_released_can_be_claimed_and_what_is_not_ones_own_stays(boards, kind, board):
    other = boards(kind)
    board.post(notice("a"))
    (mine,), (theirs,) = board.pinned(), other.pinned()
    board.claim(mine, "one")

    other.release(theirs, "two")
    kept = other.claim(theirs, "two")
    board.release(mine, "one")
    freed = other.claim(theirs, "two")
    board.release(mine, "one")  # not his any more

    assert (kept, freed) == (False, True)
    assert [each.claimed for each in board.pinned()] == [True]


def test_what_is_taken_down_is_gone_for_all_whoever_has_claimed_it(boards, kind, board):
    other = boards(kind)
    for name in "abc":
        board.post(notice(name))
    there, theirs = board.pinned(), other.pinned()
    other.claim(theirs[1], "two")

    board.remove(there[:2])
    board.remove(there[:2])
    board.remove([])
    other.release(theirs[1], "two")

    assert names(other.pinned()) == ["c"]
    assert other.claim(theirs[0], "two") is False
    assert board.count() == 1


def test_a_job_may_stand_there_twice_and_each_notice_is_taken_by_itself(boards, kind, board):
    board.post(notice("a"))
    board.post(notice("a"))
    other = boards(kind)
    (first, _), (_, second) = board.pinned(), other.pinned()

    claims = [board.claim(first, "one"), other.claim(second, "two")]
    board.remove([first])

    assert claims == [True, True]
    assert names(board.pinned()) == ["a"]


def test_what_cannot_be_read_hides_nothing_else_and_can_be_taken_down(boards, kind, board, request):
    board.post(notice("a"))
    put_rubbish(kind, board, request)

    found = boards(kind).pinned()
    still = boards(kind).pinned()
    board.remove([each for each in still if each.notice is None])

    assert names(found) == ["a", *[None] * (len(found) - 1)]
    assert len(found) == len(still) > 1
    assert names(boards(kind).pinned()) == ["a"]


def test_a_claim_ends_with_its_holder(boards, kind, board, server):
    other = boards(kind)
    board.post(notice("a"))
    (mine,), (theirs,) = board.pinned(), other.pinned()
    board.claim(mine, "one")

    if kind == "redis":
        # What is waited for is Redis's own clock; it is told that the time has passed.
        left = server.call(
            "PTTL", mine.job.owner_key, database=int(board._client.get_connection_kwargs()["db"])
        )
        assert 0 < left <= 10_000
        board._client.pexpire(mine.job.owner_key, 0)
    else:
        board.close()  # as the server does it once the session is over

    assert other.claim(theirs, "two")


def test_where_it_is_supported_a_change_is_told_once(boards, kind, board):
    told = threading.Semaphore(0)
    if not board.supports_watch:
        board.pinned(told.release)
        boards(kind).post(notice("a"))
        assert names(board.pinned()) == ["a"]
        assert not told.acquire(blocking=False)
        return

    board.pinned(told.release)
    other = boards(kind)
    other.post(notice("a"))
    assert told.acquire(timeout=PATIENCE_SECONDS)
    other.post(notice("b"))

    assert names(board.pinned(told.release)) == ["a", "b"]
    assert not told.acquire(blocking=False)
    other.remove(other.pinned())
    assert told.acquire(timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("call", ["post", "count", "pinned", "claim", "release", "remove"])
def test_without_its_server_every_call_says_that_the_link_is_broken(boards, kind, board, server, call):
    board.post(notice("a"))
    (there,) = board.pinned()
    server.stop()

    with pytest.raises(LinkBroken):
        {
            "post": lambda: board.post(notice("b")),
            "count": board.count,
            "pinned": board.pinned,
            "claim": lambda: board.claim(there, "one"),
            "release": lambda: board.release(there, "one"),
            "remove": lambda: board.remove([there]),
        }[call]()
    board.close()
    with pytest.raises(LinkBroken):
        boards(kind)


def test_after_a_loss_of_all_data_a_new_link_finds_an_empty_board(boards, kind, board, server):
    board.post(notice("a"))

    server.lose_data()

    again = boards(kind)
    assert again.pinned() == []
    again.post(notice("b"))
    assert names(boards(kind).pinned()) == ["b"]


def test_a_link_that_is_closed_says_nothing(boards, kind, board, caplog):
    board.post(notice("a"))

    board.close()

    assert caplog.text == ""


def test_a_server_that_says_nothing_is_given_up(boards, kind, server, proxy_to):
    proxy = proxy_to(server.port)
    through = (
        {"redis_url": f"redis://127.0.0.1:{proxy.port}/0"}
        if kind == "redis"
        else {"zookeeper_hosts": f"127.0.0.1:{proxy.port}"}
    )
    board = boards(kind, **through)
    proxy.set(Stall())

    with pytest.raises(LinkBroken):
        board.post(notice("a"))
    with pytest.raises(LinkBroken):
        boards(kind, **through)
