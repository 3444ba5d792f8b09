"""A connection is cut before, in or after a COMMIT. Whoever asked is told the truth, and all is stored once.

Promises: P1, P2, P4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from taskflow.patterns import linear_flow

from ebbtide.errors import CommitUnknown, JobNotFound, StoreUnavailable
from ebbtide.flows import Registry
from ebbtide.jobs import Poster, changes, tables
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store
from ebbtide.tasks import CancelableTask
from tests.services.proxy import CutAt

pytestmark = pytest.mark.postgresql_only("there is no connection to SQLite that could be cut")

COMMIT = b"COMMIT\0"
MOMENTS = ["before", "in", "after"]
KEYS = ["copy@1"]


@dataclass(frozen=True)
class Verb:
    """A change that a client asks for, of a job in a state, and the entry that it writes."""

    state: JobState
    ask: Callable[[Poster, str], Any]
    entry: str
    becomes: JobState


VERBS = {
    "cancel": Verb(
        JobState.RUNNING, lambda p, job: p.cancel(job, "enough"), "cancel_requested", JobState.RUNNING
    ),
    "cancel unclaimed": Verb(
        JobState.PENDING, lambda p, job: p.cancel(job, "enough"), "cancel_requested", JobState.CANCELLED
    ),
    "retry": Verb(JobState.FAILED, lambda p, job: p.retry(job), "retried", JobState.PENDING),
    "unpark": Verb(JobState.PARKED, lambda p, job: p.unpark(job), "unparked", JobState.PENDING),
    "accept": Verb(
        JobState.PARKED, lambda p, job: p.accept(job, "so be it"), "accepted_as_failed", JobState.FAILED
    ),
}


class Nothing(CancelableTask):
    """Does nothing, which needs no undo."""

    def execute(self) -> None: ...

    def revert(self) -> None: ...


@pytest.fixture
def registry():
    registry = Registry()

    @registry.flow("copy")
    def copy():
        return linear_flow.Flow("copy").add(Nothing("nothing"))

    return registry


@pytest.fixture
def proxy(postgresql, proxy_to):
    return proxy_to(postgresql.port)


@pytest.fixture
def poster(made, board, proxy, registry):
    with Poster(proxy.url(made), registry=registry) as far_away:
        yield far_away


@pytest.fixture
def impatient(monkeypatch):
    """A lost answer is looked for once or twice."""
    monkeypatch.setattr(changes, "_READ_BACK_SECONDS", 0.2)


@pytest.fixture
def parked(board):
    def put(state):
        job = board.put(state, owner="somebody" if state is JobState.RUNNING else None)
        if state is JobState.PARKED:
            board.add(tables.job_parks, job=job, attempt=1, number=1, reason="x", parked_at=board.clock.now)
        return job

    return put


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_post_is_stored_once_and_answered(board, poster, proxy, moment):
    proxy.set(CutAt(COMMIT, moment))

    job = poster.post("copy", labels={"of": "mine"})

    proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    assert [row["id"] for row in board.rows(tables.jobs)] == [job.id]
    assert [row["value"] for row in board.rows(tables.job_labels)] == ["mine"]
    assert board.history(job.id) == ["posted"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_post_that_takes_a_key_is_not_refused_for_its_own_sake(board, poster, proxy, moment):
    proxy.set(CutAt(COMMIT, moment))

    job = poster.post("copy", exclusive="disk", on_busy="refuse")

    proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    assert [row["id"] for row in board.rows(tables.jobs)] == [job.id]


def test_a_child_that_was_stored_is_answered_although_its_parent_takes_none_any_more(board, poster, proxy):
    parent = board.put(JobState.RUNNING, owner="somebody")
    proxy.set(CutAt(COMMIT, "in"))

    def cancel(context: Any) -> None:
        board.ledger.cancel(parent, reason="enough", who="bob")

    sa.event.listen(poster._store.engine, "handle_error", cancel, once=True)

    job = poster.post("copy", parent=parent)

    assert (job.state, job.parent) == (JobState.CANCELLED, parent)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_change_is_stored_and_answered_or_not_stored_and_said_so(
    board, poster, proxy, parked, verb, moment
):
    job = parked(verb.state)
    proxy.set(CutAt(COMMIT, moment))

    if moment == "before":
        with pytest.raises(StoreUnavailable, match="nothing was stored") as caught:
            verb.ask(poster, job)
        assert not isinstance(caught.value, CommitUnknown)
        assert (board.row(job).state, board.history(job)) == (verb.state, ["posted"])
    verb.ask(poster, job)  # the first time, or as the message says: again

    proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    assert board.row(job).state == verb.becomes
    assert board.history(job)[1:2] == [verb.entry]
    assert board.history(job).count(verb.entry) == 1


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_deletion_is_done_and_answered_or_not_done_and_said_so(board, poster, proxy, moment):
    job, other = board.put(JobState.COMPLETED), board.put(JobState.COMPLETED)
    proxy.set(CutAt(COMMIT, moment))

    if moment == "before":
        with pytest.raises(StoreUnavailable, match="nothing was stored"):
            poster.delete(job)
        assert board.history(job) == ["posted"]
    poster.delete(job)

    proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    assert [row["id"] for row in board.rows(tables.jobs)] == [other]


@pytest.mark.parametrize("moment, stored", [("before", 0), ("in", 1)])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_change_of_which_nobody_can_tell_is_not_called_accepted_and_not_called_lost(
    board, poster, proxy, parked, impatient, verb, moment, stored
):
    job = parked(verb.state)
    poster.show(job)
    proxy.set(CutAt(COMMIT, moment))
    proxy.refuse()

    with pytest.raises(CommitUnknown, match="whether this is stored is not known"):
        verb.ask(poster, job)

    assert board.history(job).count(verb.entry) == stored


@pytest.mark.parametrize("moment, stored", [("before", 0), ("in", 1)])
def test_a_post_of_which_nobody_can_tell_is_not_called_accepted_and_not_called_lost(
    board, poster, proxy, impatient, moment, stored
):
    poster.list()
    proxy.set(CutAt(COMMIT, moment))
    proxy.refuse()

    with pytest.raises(CommitUnknown, match="whether this is stored is not known"):
        poster.post("copy")

    assert len(board.rows(tables.jobs)) == stored


def test_a_store_that_is_back_before_patience_is_over_tells_what_became_of_a_cancel(
    board, poster, proxy, monkeypatch
):
    job = board.put(JobState.RUNNING, owner="somebody")
    poster.show(job)
    proxy.set(CutAt(COMMIT, "in"))
    proxy.refuse()
    monkeypatch.setattr(changes, "_READ_BACK_SECONDS", 30.0)
    seen = []

    def back_after_two_looks(look):
        def looking(*args):
            seen.append(args)
            if len(seen) == 2:
                proxy.accept()
            return look(*args)

        return looking

    monkeypatch.setattr(changes.Changes, "_is_marked", back_after_two_looks(changes.Changes._is_marked))

    answer = poster.cancel(job, "enough")

    assert (answer.answer, board.history(job)) == ("accepted", ["posted", "cancel_requested"])
    assert len(seen) == 2


# What a conductor asks for.


@pytest.fixture
def claims(made, near, proxy):
    """Those of a registered conductor, by way of the proxy."""
    with Store(proxy.url(made)) as far_away:
        yield Claims(far_away, "one", name="one", lease_seconds=30.0)


@pytest.fixture
def near(conductor):
    """The claims of the same conductor, by way of nothing that could be cut."""
    return conductor("one")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_claim_is_stored_and_known_or_not_stored_and_made_again(board, claims, near, proxy, moment):
    job = board.post()
    proxy.set(CutAt(COMMIT, moment))

    if moment == "before":
        with pytest.raises(StoreUnavailable):
            claims.claim(KEYS)
        assert (board.row(job).state, near.held()) == (JobState.PENDING, {})
    claim = claims.claim(KEYS)

    proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    assert claim is not None
    assert (claim.job_id, claim.epoch, near.held()) == (job, 1, {job: 1})
    assert board.history(job) == ["posted", "claimed"]
    assert board.row(job).interruptions == 0


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_job_is_taken_up_again_once(board, claims, near, proxy, moment):
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    proxy.set(CutAt(COMMIT, moment))

    if moment == "before":
        with pytest.raises(StoreUnavailable):
            claims.reclaim(job, 1, "its runner died")
        assert board.row(job).epoch == 1
    claim = claims.reclaim(job, 1, "its runner died")

    assert claim is not None
    assert (claim.job_id, claim.epoch, near.held()) == (job, 2, {job: 2})
    assert board.history(job) == ["posted", "reclaimed"]
    assert board.row(job).interruptions == 1


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_claim_of_which_nobody_can_tell_is_found_by_its_owner(board, claims, near, proxy, moment):
    job = board.post()
    claims.requests()
    proxy.set(CutAt(COMMIT, moment))
    proxy.refuse()

    if moment == "after":
        assert claims.claim(KEYS) is not None
    else:
        with pytest.raises(StoreUnavailable):
            claims.claim(KEYS)

    assert near.held() == ({} if moment == "before" else {job: 1})


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_renewal_may_be_repeated(board, claims, proxy, moment):
    proxy.set(CutAt(COMMIT, moment))
    board.clock.advance(10)

    if moment != "after":
        with pytest.raises(StoreUnavailable):
            claims.renew()
    assert claims.renew()

    (row,) = board.rows(tables.conductors)
    assert row["lease_until"] == board.clock.boot + 30


def test_a_deleted_job_is_unknown_to_who_asks_again(board, poster, proxy):
    job = board.put(JobState.COMPLETED)
    proxy.set(CutAt(COMMIT, "in"))

    poster.delete(job)

    with pytest.raises(JobNotFound):
        poster.delete(job)
