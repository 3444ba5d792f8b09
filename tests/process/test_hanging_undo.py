"""An undo that never ends: its runner is ended, it counts as a try, and the next runner goes on.

Promises: P3, P7, P10.
"""

import os
import signal

LIMITS = {"revert_timeout_seconds": 0.3, "kill_after_seconds": 0.1, "revert_retry_seconds": 0.01}


def _cancelled(stage, action):
    """A job of three tasks that is cancelled in its last one."""
    job = stage.post("a", f"b:{action}", "c:wait")
    stage.await_effect(job, "waiting", "c")
    stage.poster.cancel(job.id)
    return job


def _record(stage, job, task):
    return next(record for record in stage.poster.tasks(job.id) if record.task == task)


def test_an_undo_that_hangs_each_time_parks_its_job_and_is_done_once_that_is_mended(stage):
    stage.conductor(runners=1, revert_retries=1, **LIMITS)
    job = _cancelled(stage, "hanging-undo")

    parked = stage.ended(job)

    with stage.explained(job):
        told = "it did not end within 0.3 s, and its runner was ended"
        assert (parked.state, parked.not_undone) == ("parked", ["a", "b"])
        assert parked.park_reason == f"the undo of b failed (2 tries): {told}"
        assert stage.told(job, "undo") == ["undo c", "undo b", "undo b"]
        (first, second) = (e for e in stage.poster.entries(job.id) if e.name == "reclaimed")
        assert first.detail["cause"] == second.detail["cause"] == f"the undo of b: {told}"
        # It was ended on purpose: that interrupts nothing, however often.
        assert stage.poster.entries(job.id)[-1].name == "parked"

    stage.open("b", verb="repaired")
    stage.poster.unpark(job.id)
    ended = stage.ended(job)

    with stage.explained(job):
        assert (ended.state, ended.undo) == ("cancelled", "complete")
        assert stage.told(job, "undone") == ["undone c", "undone b", "undone a"]
        assert _record(stage, job, "b").undo_tries == 3
        results = [line["result"] for line in stage.effects(job, "undo", task="b")]
        assert results == [{"made": "b at epoch 1"}] * 3
        stage.assert_history_replays(ended)


def test_an_undo_that_hangs_once_is_done_by_the_next_runner(stage):
    stage.conductor(runners=1, revert_retries=3, **LIMITS)
    job = _cancelled(stage, "hanging-undo")
    stage.await_effect(job, "undo", "b", 2)
    stage.open("b", verb="repaired")

    ended = stage.ended(job)

    with stage.explained(job):
        assert (ended.state, ended.undo) == ("cancelled", "complete")
        assert stage.told(job, "undone") == ["undone c", "undone b", "undone a"]
        assert "parked" not in stage.names(job)


# Nothing of it executes then, so nothing of it is overdue: without a limit it would be cancelling for good.


def test_a_job_whose_flow_hangs_where_it_is_built_ends_cancelled_where_nothing_has_begun(stage):
    job = stage.poster.post("unbuilt", {"folder": str(stage.folder)})
    (stage.folder / "unbuilt").touch()
    stage.conductor(runners=1, **LIMITS)
    stage.wait_until(lambda: "claimed" in stage.names(job), "the claim")

    stage.poster.cancel(job.id)

    ended = stage.ended(job)
    with stage.explained(job):
        assert (ended.state, ended.undo) == ("cancelled", "none")
        (released,) = stage.entries(job, "released")
        told = "it did not end within 0.3 s, and its runner was ended"
        assert released.detail["reason"] == f"its flow could not be built: {told}"
        stage.assert_history_replays(ended)


def test_a_job_whose_flow_hangs_where_it_is_built_is_parked_where_something_is_to_be_undone(stage):
    job = stage.poster.post("unbuilt", {"folder": str(stage.folder)})
    conductor = stage.conductor(runners=1, **LIMITS)
    stage.await_effect(job, "waiting", "b")
    (stage.folder / "unbuilt").touch()
    (runner,) = conductor.runners
    os.kill(runner, signal.SIGKILL)
    stage.wait_until(lambda: "reclaimed" in stage.names(job), "the next claim")

    stage.poster.cancel(job.id)

    parked = stage.ended(job)
    with stage.explained(job):
        told = "it did not end within 0.3 s, and its runner was ended"
        assert (parked.state, parked.park_reason) == ("parked", f"its flow could not be built: {told}")

    assert _end_once_it_is_gone(stage, job, "unbuilt") == ("cancelled", "complete")
    assert stage.told(job, "undone") == ["undone b", "undone a"]


def test_a_job_whose_retry_controller_hangs_in_its_undo_is_parked(stage):
    stage.conductor(runners=1, grace_seconds=0.1, **LIMITS)
    job = stage.poster.post("deaf-retry", {"folder": str(stage.folder)})
    stage.wait_until((stage.folder / "asked").exists, "the controller to be asked")
    (stage.folder / "deaf").touch()

    stage.poster.cancel(job.id)

    parked = stage.ended(job)
    with stage.explained(job):
        told = "it did not end within 0.3 s, and its runner was ended"
        assert (parked.state, parked.park_reason) == ("parked", f"the undo of retry failed: {told}")
        assert stage.told(job, "undone") == ["undone b", "undone a"]

    assert _end_once_it_is_gone(stage, job, "deaf") == ("cancelled", "complete")


def _end_once_it_is_gone(stage, job, file):
    """How a job ends that was parked since something waits for that file to go."""
    (stage.folder / file).unlink()
    stage.poster.unpark(job.id)
    ended = stage.ended(job)
    with stage.explained(job):
        stage.assert_history_replays(ended)
    return ended.state, ended.undo
