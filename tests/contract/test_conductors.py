"""Which conductors a store knows, in which state, and what runs there."""

import json

import pytest
import sqlalchemy as sa

from ebbtide import __version__
from ebbtide.jobs import tables
from ebbtide.jobs.conductors import read_conductors
from ebbtide.jobs.states import JobState


def states(store):
    return {each.id: each.state for each in read_conductors(store)}


def test_a_conductor_is_alive_until_its_lease_is_over_or_given_up(store, conductor, clock):
    conductor("silent", lease_seconds=10.0)
    conductor("well", lease_seconds=30.0)
    conductor("done", lease_seconds=30.0).release()
    clock.advance(11)

    assert states(store) == {"silent": "expired", "well": "alive", "done": "ended"}
    left = {each.id: each.lease_left_seconds for each in read_conductors(store)}
    assert left == {"silent": None, "well": pytest.approx(19), "done": None}


@pytest.mark.sqlite_only("on a server leases do not end with a boot")
def test_after_a_boot_nobody_of_before_is_alive(store, conductor, board):
    conductor("before")
    with store.write() as connection:
        connection.execute(sa.update(tables.conductors).values(boot_id="another"))

    (found,) = read_conductors(store)

    assert (found.state, found.lease_left_seconds) == ("expired", None)


def test_the_newest_comes_first_with_what_it_is_and_knows(store, conductor, clock):
    conductor("older")
    clock.advance(5)
    conductor("newer")

    newer, older = read_conductors(store)

    assert (older.id, newer.id) == ("older", "newer")
    assert newer.started_at == older.started_at + 5
    assert (newer.flows, newer.runners, newer.isolation) == (["copy@1"], 1, "thread")
    assert newer.version == __version__
    assert newer.clock_ahead_seconds == pytest.approx(0.0)


def test_each_job_that_is_held_is_shown_where_it_is_in_the_phase_it_is_in(store, conductor, board):
    first, second = conductor("one"), conductor("two")
    plain, asked = board.post(), board.post()
    assert {first.claim(["copy@1"]).job_id, first.claim(["copy@1"]).job_id} == {plain, asked}
    board.ledger.cancel(asked, reason="", who="ann")
    undone = board.put(JobState.RUNNING, owner="two", undoing=1)
    board.put(JobState.COMPLETED, owner="two")
    assert second.held() == {undone: 0}

    held = {each.id: {job.id: job.phase for job in each.jobs} for each in read_conductors(store)}

    assert held == {"one": {plain: "running", asked: "cancelling"}, "two": {undone: "reverting"}}


def test_as_a_dict_it_is_json_with_iso_times(store, conductor, board):
    conductor("one").claim([])
    board.put(JobState.RUNNING, owner="one")

    (told,) = [json.loads(json.dumps(each.as_dict())) for each in read_conductors(store)]

    assert told["started_at"] == "2023-11-14T22:13:20.000Z"
    assert [(job["flow"], job["version"], job["phase"]) for job in told["jobs"]] == [("copy", 1, "running")]
