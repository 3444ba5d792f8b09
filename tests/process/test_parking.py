"""A parked job that goes on, with real processes that die on the way.

Promises: P3 (a cancel is not lost), P7 (what began is undone), P10 (it ends), P11 (three deaths park).
"""

import os
import signal

import pytest


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _tries(stage, job):
    return {record.task: record.undo_tries for record in stage.poster.tasks(job.id)}


def _parked_in_its_undo(stage, action):
    """A cancelled job of three tasks, whose second one could not be undone."""
    job = stage.post("a", f"b:{action}", "c:wait")
    stage.await_effect(job, "waiting", "c")
    stage.poster.cancel(job.id)
    parked = stage.ended(job)
    assert (parked.state, parked.not_undone) == ("parked", ["a", "b"])
    return job


@pytest.mark.parametrize("victim", ["runner", "conductor", "the whole tree"])
def test_a_kill_in_the_middle_of_the_repaired_undo_loses_neither_the_result_nor_what_is_held(stage, victim):
    conductor = stage.conductor(runners=1)
    job = _parked_in_its_undo(stage, "broken+slow-undo")
    stage.open("b", verb="repaired")
    stage.poster.unpark(job.id)
    stage.await_effect(job, "undo", "b", 2)

    match victim:
        case "runner":
            _kill(conductor.runners[0])
        case "conductor":
            conductor.kill()
            stage.conductor(runners=1)
        case "the whole tree":
            tree = conductor.stop_tree()
            for pid in tree:
                _kill(pid)
            stage.await_end_of(tree)
            # Nobody is left to give its lease up.
            with stage.poster._store.write() as connection:
                connection.exec_driver_sql("UPDATE conductors SET lease_until = 0")
            stage.conductor(runners=1)
    stage.await_effect(job, "undo", "b", 3)
    stage.open("b", verb="undo")
    ended = stage.ended(job)

    with stage.explained(job):
        assert (ended.state, ended.undo, ended.not_undone) == ("cancelled", "complete", [])
        assert ended.cancel.reverted_at is not None
        assert stage.told(job, "undo") == ["undo c", "undo b", "undo b", "undo b", "undo a"]
        assert stage.told(job, "undone") == ["undone c", "undone b", "undone a"]
        results = [line["result"] for line in stage.effects(job, "undo", task="b")]
        assert results == [{"made": "b at epoch 1"}] * 3
        assert len(stage.effects(job, "begin")) == 3
        assert _tries(stage, job) == {"a": 1, "b": 3, "c": 1}
        assert stage.names(job).count("parked") == 1
        stage.assert_history_replays(ended)


def test_an_undo_that_kills_its_runner_three_times_parks_and_goes_on_once_it_is_mended(stage):
    stage.conductor(runners=1)
    job = _parked_in_its_undo(stage, "deadly-undo")
    reason = stage.poster.show(job.id).park_reason
    assert reason == "interrupted 3 times without progress in b; last: its runner exited with status 7"

    stage.poster.unpark(job.id)
    again = stage.ended(job)
    assert (again.state, again.not_undone) == ("parked", ["a", "b"])
    stage.open("b", verb="repaired")
    stage.poster.unpark(job.id)
    ended = stage.ended(job)

    with stage.explained(job):
        assert (ended.state, ended.undo) == ("cancelled", "complete")
        assert [line["result"] for line in stage.effects(job, "undo", task="b")] == [
            {"made": "b at epoch 1"}
        ] * 7
        assert stage.told(job, "undone") == ["undone c", "undone b", "undone a"]
        assert stage.names(job).count("parked") == 2


def test_a_job_that_was_parked_going_forwards_goes_on_forwards(stage):
    stage.conductor(runners=1)
    job = stage.post("a", "b:exit*4", "c")
    assert stage.ended(job).state == "parked"

    stage.poster.unpark(job.id)
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("completed", "none")
    assert stage.told(job, "begin", "undo") == ["begin a", *["begin b"] * 5, "begin c"]
    assert stage.effects(job, "begin", task="b")[-1]["interrupted"] is True
    stage.assert_history_replays(ended)


def test_a_job_that_was_parked_going_forwards_and_is_cancelled_goes_backwards_once_it_is_unparked(stage):
    stage.conductor(runners=1)
    job = stage.post("a", "b:exit", "c")
    assert stage.ended(job).state == "parked"
    assert stage.poster.cancel(job.id).answer == "accepted"

    stage.poster.unpark(job.id)
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert stage.told(job, "begin", "undo") == ["begin a", *["begin b"] * 3, "undo b", "undo a"]
    assert [line["result"] for line in stage.effects(job, "undo")] == [
        "INTERRUPTED",
        {"made": "a at epoch 1"},
    ]


def test_a_job_that_is_accepted_as_it_is_is_run_once_more_by_a_retry(stage):
    stage.conductor(runners=1)
    job = _parked_in_its_undo(stage, "broken-undo")

    accepted = stage.poster.accept(job.id, "b is gone with its host")
    assert (accepted.state, accepted.undo, accepted.not_undone) == ("cancelled", "accepted", ["a", "b"])
    stage.open("c")
    stage.poster.retry(job.id)
    ended = stage.ended(job)

    assert (ended.state, ended.attempt) == ("completed", 2)
    assert stage.told(job, "undo") == ["undo c", "undo b"]
    stage.assert_history_replays(ended)
