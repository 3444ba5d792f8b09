"""What a conductor claims: only with a running lease, only flows it knows, the best job first."""

import contextlib
import json

import pytest
import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.claims import Claim, Request, new_owner_id
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.states import JobState
from tests.contract.holding import Holding

KEYS = ["copy@1"]


def edge(board, name: str, job: str, **values) -> None:
    with board.store.write() as connection:
        apply_edge(connection, name, job, at=board.clock.now, values=values)


# -- leases


@contextlib.contextmanager
def statements(store):
    """Everything that is sent to the database meanwhile."""
    sent = []

    def note(connection, cursor, statement, *_):
        if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE")):
            sent.append(statement)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(store.engine, "before_cursor_execute", note)


def test_a_conductor_registers_with_its_first_lease(board, conductor, store_kind):
    conductor("one", lease_seconds=30.0)

    (row,) = board.rows(tables.conductors)
    assert (row["id"], row["lease_until"], row["boot_id"]) == (
        "one",
        board.clock.boot + 30,
        # The clock of a server knows no boots.
        board.clock.boot_id if store_kind == "sqlite" else "",
    )
    assert (json.loads(row["flows"]), row["released_at"]) == (KEYS, None)


def test_a_lease_is_prolonged_while_it_runs(board, conductor):
    one = conductor("one", lease_seconds=30.0)
    for _ in range(5):
        board.clock.advance(29)
        assert one.renew()

    assert board.rows(tables.conductors)[0]["lease_until"] == board.clock.boot + 30


@pytest.mark.parametrize("seconds", [30.0, 30.001, 10**6])
def test_a_lease_that_is_over_is_over_for_good(board, conductor, seconds):
    one = conductor("one", lease_seconds=30.0)
    board.post()
    board.clock.advance(seconds)

    assert not one.renew()
    assert one.claim(KEYS) is None

    assert not one.renew()


def test_a_released_lease_is_over(board, conductor):
    one = conductor("one")
    board.post()
    one.release()
    board.clock.advance(1)
    one.release()

    assert not one.renew()
    assert one.claim(KEYS) is None
    assert board.rows(tables.conductors)[0]["released_at"] == board.clock.now - 1


@pytest.mark.sqlite_only("a server's clock goes on over a boot of its host")
def test_after_another_boot_a_lease_is_over_whatever_the_seconds_say(board, conductor):
    one = conductor("one")
    job = board.post()
    assert one.claim(KEYS) is not None
    board.clock.boot_id, board.clock.boot = "ba9876543210", 10.0

    assert not one.renew()
    assert one.claim(KEYS) is None
    two = conductor("two")
    claim = two.claim(KEYS)
    assert claim is not None
    assert (claim.job_id, board.row(job).owner) == (job, "two")


def test_who_never_registered_claims_nothing(board, conductor, store):
    board.post()
    stranger = conductor("one")
    stranger.owner = "somebody else"

    assert stranger.claim(KEYS) is None
    assert not stranger.renew()


def test_owner_ids_are_never_the_same():
    assert len({new_owner_id() for _ in range(100)}) == 100


# -- which job


def test_where_there_is_nothing_to_do_nothing_is_claimed(board, conductor):
    one = conductor()

    assert one.claim(KEYS) is None
    assert one.claim([]) is None


def test_a_claim_takes_the_job_up(board, conductor):
    one = conductor("one")
    job = board.post()
    board.clock.advance(5)

    claim = one.claim(KEYS)

    assert claim == Claim(job, "copy", 1, attempt=1, epoch=1, write=1, cancel=None)
    assert claim is not None
    assert claim.key == "copy@1"
    row = board.row(job)
    assert (row.state, row.owner, row.epoch, row.started_at) == ("running", "one", 1, board.clock.now)
    assert board.history(job) == ["posted", "claimed"]
    assert (board.last(job)["actor"], board.last(job)["epoch"]) == ("one", 1)
    assert one.claim(KEYS) is None


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.PENDING, JobState.RUNNING}))
def test_what_does_not_wait_is_not_claimed(board, conductor, state):
    board.put(state, owner="nobody")

    assert conductor().claim(KEYS) is None


@pytest.mark.parametrize(
    "keys", [["copy@2"], ["copy@11"], ["copy"], ["copy@1 "], ["Copy@1"], ["%"], ["copy@1' OR '1'='1"], []]
)
def test_a_job_of_an_unknown_flow_is_left_alone(board, conductor, keys):
    """P12: it waits for a conductor that knows it; so does one whose conductor is gone."""
    waiting = board.post("copy")
    orphan = board.put(JobState.RUNNING, owner="gone", epoch=3)

    assert conductor().claim(keys) is None

    assert board.row(waiting).state == "pending"
    assert (board.row(orphan).owner, board.row(orphan).epoch) == ("gone", 3)


def test_a_job_is_claimed_when_it_is_due_and_not_before(board, conductor):
    one = conductor(lease_seconds=1000.0)
    job = board.post(delay_seconds=60.0)

    board.clock.advance(59.9)
    assert one.claim(KEYS) is None

    board.clock.advance(0.1)
    claim = one.claim(KEYS)
    assert claim is not None
    assert claim.job_id == job


def test_the_most_urgent_is_claimed_first_then_the_one_that_is_due_longest_then_the_oldest(board, conductor):
    one = conductor(lease_seconds=1000.0)
    now = board.clock.now
    plan = {
        "urgent, newest": (5, now, now),
        "urgent, oldest": (5, now, now - 9),
        "due longest": (0, now - 5, now),
        "due at the same time, older": (0, now - 3, now - 8),
        "due at the same time, newer": (0, now - 3, now - 7),
        "least urgent": (-5, now - 100, now - 100),
    }
    names = {}
    for name, (priority, due, created) in sorted(plan.items(), reverse=True):
        names[board.put(JobState.PENDING, priority=priority, due_at=due, created_at=created)] = name

    claimed = []
    while (claim := one.claim(KEYS)) is not None:
        claimed.append(names[claim.job_id])

    assert claimed == ["urgent, oldest", "urgent, newest", *list(plan)[2:]]


def test_a_job_that_was_handed_back_keeps_the_time_it_started(board, conductor):
    one = conductor()
    job = board.post()
    one.claim(KEYS)
    started = board.row(job).started_at
    edge(board, "released", job, owner=None)
    board.clock.advance(5)

    claim = one.claim(KEYS)

    assert claim is not None
    assert (claim.epoch, claim.attempt) == (2, 1)
    assert (board.row(job).started_at, board.row(job).interruptions) == (started, 0)


def test_a_claim_brings_the_cancel_request_along(board, conductor):
    """Against a crash: the next claim starts with the event set."""
    job = board.put(JobState.PENDING, begun=1)
    board.ledger.cancel(job, reason="wrong folder", who="bob", source="parent")

    claim = conductor().claim(KEYS)

    assert claim is not None
    assert claim.cancel == Request(job, "wrong folder", "parent", 1)


def test_a_request_of_an_earlier_attempt_is_not_brought_along(board, conductor):
    job = board.post()
    board.ledger.cancel(job, reason="first", who="bob")
    board.ledger.retry(job, who="bob")

    claim = conductor().claim(KEYS)

    assert claim is not None
    assert (claim.attempt, claim.cancel) == (2, None)


@pytest.mark.parametrize("waits", ["nothing", "a job of an unknown flow", "a job for later"])
def test_to_find_nothing_takes_as_many_statements_however_many_flows_are_known(
    board, conductor, store, store_kind, waits
):
    claims = conductor()
    if waits != "nothing":
        board.post("unknown" if "unknown" in waits else "copy", delay_seconds=60.0 * ("later" in waits))
    looks = []

    for flows in (1, 300):
        with statements(store) as sent:
            assert claims.claim([f"flow-{number}@1" for number in range(flows)]) is None
        looks.append(len(sent))

    few = 3 if "unknown" in waits else 2
    # SQLite is asked for 300 flows in two parts.
    assert looks == [few, few + ("unknown" in waits and store_kind == "sqlite")]


def test_what_an_idle_conductor_asks_is_compiled_once(conductor, store):
    claims = conductor()
    compiled = []

    def note(connection, cursor, statement, parameters, context, many):
        if context.compiled is not None:
            compiled.append(context.compiled)

    claims.claim(KEYS)
    sa.event.listen(store.engine, "before_cursor_execute", note)
    claims.claim(KEYS)
    once = len(compiled)
    claims.claim(KEYS)
    sa.event.remove(store.engine, "before_cursor_execute", note)

    assert once > 1
    assert [id(each) for each in compiled[:once]] == [id(each) for each in compiled[once:]]


def test_the_best_is_found_among_many_flows(board, conductor):
    claims = conductor()
    board.post("flow-7")
    best = board.post("flow-250", priority=3)
    board.post("flow-299", priority=2)

    claim = claims.claim([f"flow-{number}@1" for number in range(300)])

    assert claim.job_id == best


def test_a_job_can_be_claimed_by_its_id_where_its_flow_is_known(board, conductor):
    board.post(priority=5)
    job, later, other = board.post(), board.post(delay_seconds=60.0), board.post("other")
    one, two = conductor("one"), conductor("two")

    claim = one.claim_one(job, ["copy@1"])
    refused = [two.claim_one(each, ["copy@1"]) for each in (job, later, other, "no-such-job")]

    assert (claim.job_id, claim.epoch) == (job, 1)
    assert refused == [None] * 4
    assert board.history(job) == ["posted", "claimed"]


def test_without_a_lease_no_job_is_claimed_by_its_id(board, conductor, clock):
    job, claims = board.post(), conductor(lease_seconds=1.0)
    clock.advance(2.0)

    assert claims.claim_one(job, ["copy@1"]) is None


@pytest.mark.parametrize("cancel", [None, Request("7f3a", "wrong\nfolder", "user", 1)])
def test_a_claim_travels_as_json(cancel):
    claim = Claim("7f3a", "copy", 1, attempt=2, epoch=3, write=4, cancel=cancel)
    values = json.loads(json.dumps(claim.as_dict()))

    assert Claim.from_dict(values) == claim
    assert Claim.from_dict(values) == claim


# -- forwarding


def test_requests_are_those_of_my_running_jobs_that_were_not_forwarded(board, conductor):
    one = conductor("one")
    mine = board.put(JobState.RUNNING, owner="one", attempt=2)
    board.put(JobState.RUNNING, owner="one")
    others = [board.put(JobState.RUNNING, owner="two"), board.put(JobState.PARKED, owner="one")]
    for job in (mine, *others):
        board.ledger.cancel(job, reason="x", who="bob")

    assert one.requests() == [Request(mine, "x", "user", attempt=2)]


def test_a_request_is_recorded_as_forwarded_once(board, conductor):
    one = conductor("one")
    job = board.put(JobState.RUNNING, owner="one")
    board.ledger.cancel(job, reason="x", who="bob")
    (request,) = one.requests()

    one.forwarded(request, at=11.0)
    one.forwarded(request, at=12.0)

    assert one.requests() == []
    assert [row["forwarded_at"] for row in board.rows(tables.job_cancels)] == [11.0]
    assert board.history(job) == ["posted", "cancel_requested", "cancel_forwarded"]
    assert (board.last(job)["at"], board.last(job)["actor"]) == (11.0, "one")


@pytest.mark.parametrize("heard", ["delivered_at", "reverted_at"])
@pytest.mark.parametrize(("at", "told"), [(9.0, [9.0]), (11.0, [])])
def test_a_request_that_a_run_has_heard_of_was_forwarded_by_then(board, conductor, heard, at, told):
    one = conductor("one")
    job = board.put(JobState.RUNNING, owner="one")
    board.ledger.cancel(job, reason="x", who="bob")
    (request,) = one.requests()
    with board.store.write() as connection:
        connection.execute(tables.job_cancels.update().values({heard: 10.0}))

    one.forwarded(request, at=at)

    assert one.requests() == []
    assert [row["forwarded_at"] for row in board.rows(tables.job_cancels)] == [min(at, 10.0)]
    entries = [row["at"] for row in board.rows(tables.job_entries) if row["name"] == "cancel_forwarded"]
    assert entries == told


def test_a_delivery_that_is_stored_late_is_not_told_as_one_before_the_request_came(board, conductor):
    """The run found the request at a barrier; it is handed over and noted before the next commit."""
    one = conductor("one")
    job = board.post()
    held = Holding(board.store, one.claim(KEYS), "one")
    held.begin("a")
    board.ledger.cancel(job, reason="x", who="bob")
    (request,) = one.requests()
    held.journal.delivered("a")
    delivered = board.clock.now
    board.clock.advance(1.0)

    one.forwarded(request, at=board.clock.now)
    held.journal.commit()

    (row,) = board.rows(tables.job_cancels)
    assert (row["forwarded_at"], row["delivered_at"]) == (delivered, delivered)


def test_the_request_of_each_attempt_is_forwarded_for_itself(board, conductor):
    one = conductor("one")
    job = board.post()
    board.ledger.cancel(job, reason="first", who="bob")
    board.ledger.retry(job, who="bob")
    one.claim(KEYS)
    board.ledger.cancel(job, reason="second", who="bob")

    for request in one.requests():
        one.forwarded(request, at=11.0)

    assert [row["forwarded_at"] for row in board.rows(tables.job_cancels)] == [None, 11.0]


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.RUNNING}))
def test_a_request_that_is_forwarded_when_its_run_has_ended_is_no_entry_after_the_end(
    board, conductor, state
):
    one = conductor("one")
    job = board.put(JobState.RUNNING, owner="one")
    board.ledger.cancel(job, reason="x", who="bob")
    (request,) = one.requests()
    board.change(job, state=state.value)

    one.forwarded(request, at=11.0)

    assert [row["forwarded_at"] for row in board.rows(tables.job_cancels)] == [11.0]
    assert board.history(job) == ["posted", "cancel_requested"]


def test_where_nothing_was_requested_nothing_is_recorded_as_forwarded(board, conductor):
    job = board.put(JobState.RUNNING, owner="one")

    conductor("one").forwarded(Request(job, "x", "user", attempt=1), at=11.0)

    assert board.history(job) == ["posted"]
