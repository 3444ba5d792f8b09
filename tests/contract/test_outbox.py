"""The outbox: one conductor keeps the board as the ledger says, and another one when he is gone."""

import pytest
import sqlalchemy as sa

from ebbtide.jobs.boards import Notice, Outbox

WINDOW = 5


@pytest.fixture
def place(boards):
    """The board, as the leader has it. Which one is no matter: what they do alike is in test_boards.py."""
    return boards("redis")


@pytest.fixture
def outbox(store, conductor):
    """That of a conductor that leads."""
    conductor("one", lease_seconds=1000.0)
    opened = Outbox(store, "one", WINDOW)
    assert opened.lead()
    return opened


def on(place):
    return [None if each.notice is None else each.notice.job_id for each in place.pinned()]


def post_old(board, **options):
    """A job that has been due for a while."""
    job = board.post(**options)
    board.clock.advance(2.0)
    return job


def test_one_leads_until_his_lease_is_over(store, clock, conductor):
    conductor("one"), conductor("two", lease_seconds=100.0)
    one, two = Outbox(store, "one", WINDOW), Outbox(store, "two", WINDOW)

    first = [one.lead(), two.lead(), one.lead()]
    clock.advance(31.0)
    then = [one.lead(), two.lead(), one.lead()]

    assert (first, then) == ([True, False, True], [False, True, False])


def test_who_ends_leaves_the_lead_at_once(store, conductor):
    claims = conductor("one")
    conductor("two")
    one, two = Outbox(store, "one", WINDOW), Outbox(store, "two", WINDOW)
    assert one.lead()

    claims.release()

    assert (two.lead(), one.lead()) == (True, False)


def test_who_resigns_leaves_the_lead_to_whoever_asks_first_and_takes_it_from_nobody(store, conductor):
    conductor("one"), conductor("two")
    one, two = Outbox(store, "one", WINDOW), Outbox(store, "two", WINDOW)
    assert one.lead()

    one.resign()
    first = [two.lead(), one.lead()]
    one.resign()

    assert (first, two.lead()) == ([True, False], True)


def test_who_has_no_lease_never_leads(store, conductor, clock):
    conductor("late", lease_seconds=1.0)
    clock.advance(2.0)

    assert not Outbox(store, "nobody", WINDOW).lead()
    assert not Outbox(store, "late", WINDOW).lead()


def test_what_is_missing_is_posted_as_the_ledger_has_it(outbox, board, place):
    due_at = board.clock.now
    job = post_old(board, priority=7)

    full = outbox.tend(place)

    assert [each.notice for each in place.pinned()] == [Notice(job, "copy@1", 7, pytest.approx(due_at))]
    assert not full


def test_what_was_posted_just_now_is_left_to_its_poster_for_one_look(outbox, board, place):
    job = board.post()

    outbox.tend(place)
    first = on(place)
    outbox.tend(place)

    assert (first, on(place)) == ([], [job])


def test_what_is_there_is_not_posted_again(outbox, board, place):
    job = post_old(board)

    for _ in range(3):
        outbox.tend(place)

    assert on(place) == [job]


def test_what_is_not_due_or_known_to_nobody_is_not_posted(outbox, board, place):
    later = board.post(delay_seconds=60.0)
    post_old(board, flow="unknown")
    outbox.tend(place)
    before = on(place)

    board.clock.advance(62.0)
    outbox.tend(place)

    assert (before, on(place)) == ([], [later])


def test_the_window_holds_the_best_and_a_better_one_takes_the_place_of_the_worst(outbox, board, place):
    jobs = [board.post(priority=priority) for priority in range(8)]
    board.clock.advance(2.0)

    full = outbox.tend(place)
    before = on(place)
    best = post_old(board, priority=50)
    outbox.tend(place)

    assert full
    assert before == jobs[:2:-1]
    assert on(place) == [best, *jobs[:3:-1]]


def test_a_better_job_that_stands_there_already_pushes_out_the_worst_alone(outbox, board, place):
    jobs = [board.post(priority=priority) for priority in range(8)]
    board.clock.advance(2.0)
    for job in jobs:
        place.post(Notice(job, "copy@1", jobs.index(job), 1.0))

    outbox.tend(place)

    assert on(place) == jobs[:2:-1]


def test_what_has_ended_is_unknown_doubled_or_unreadable_is_taken_down(outbox, board, store, place):
    stays, cancelled = post_old(board), post_old(board)
    board.ledger.cancel(cancelled, reason="enough", who="ann")
    for job in (stays, cancelled, stays, "3a69438f-b748-4ff6-8a7a-4e9cb736f67e"):
        place.post(Notice(job, "copy@1", 0, 1.0))
    place._client.hset(place._driver.listings_key, "rubbish", b"\xc1")
    assert len(on(place)) == 5

    outbox.tend(place)

    assert on(place) == [stays]


def test_what_is_claimed_in_the_ledger_is_taken_down_and_posted_again_once_it_is_released(
    outbox, board, conductor, place
):
    post_old(board)
    outbox.tend(place)
    claims = conductor("two")
    claim = claims.claim(["copy@1"])

    outbox.tend(place)
    meanwhile = on(place)
    claims.hand_back(claim)
    board.clock.advance(2.0)
    outbox.tend(place)

    assert (meanwhile, on(place)) == ([], [claim.job_id])


def test_a_board_that_lost_everything_is_filled_again(outbox, board, place, redis, boards):
    jobs = [post_old(board) for _ in range(3)]
    outbox.tend(place)

    redis.lose_data()
    again = boards("redis")
    outbox.tend(again)

    assert on(again) == jobs


def test_a_look_at_an_empty_board_with_nothing_due_is_one_statement_and_one_request(
    outbox, store, place, monkeypatch
):
    statements, requests = [], []

    def note(connection, cursor, statement, *_):
        if not statement.startswith(("BEGIN", "ROLLBACK")):
            statements.append(statement)

    def execute_command(*args, original=place._client.execute_command, **options):
        requests.append(args[0])
        return original(*args, **options)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    monkeypatch.setattr(place._client, "execute_command", execute_command)
    outbox.tend(place)
    sa.event.remove(store.engine, "before_cursor_execute", note)

    assert (len(statements), requests) == (1, ["HGETALL"])


def test_to_look_who_leads_is_one_statement(outbox, store):
    statements = []

    def note(connection, cursor, statement, *_):
        if not statement.startswith(("BEGIN", "ROLLBACK")):
            statements.append(statement)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    leads = [outbox.lead(), Outbox(store, "two", WINDOW).lead()]
    sa.event.remove(store.engine, "before_cursor_execute", note)

    assert leads == [True, False]
    assert len(statements) == 2
