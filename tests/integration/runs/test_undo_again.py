"""An undo that fails is tried again before anybody is asked.

Promises: P3 (a cancel is not lost), P7 (what began is undone, or the job is parked, naming what is not).
"""

import pytest

SOON = {"revert_retry_seconds": 0.0}


def _failed(bench, broken, fails, *, flow="linear", last="d", **settings):
    """A job whose last task fails, and whose undo of `broken` does so the first few times."""
    job = bench.post(flow, {last: ["fail"], f"undo {broken}": ["fail"] * fails})
    bench.start(**(SOON | settings))
    return bench.final(job)


def _record(bench, job, task):
    return next(record for record in bench.poster.tasks(job.id) if record.task == task)


@pytest.mark.parametrize("fails", [1, 3])
def test_an_undo_that_fails_now_and_then_is_tried_until_it_succeeds(bench, fails):
    ended = _failed(bench, "b", fails, revert_retries=3)

    assert (ended.state, ended.undo, ended.not_undone) == ("failed", "complete", []), bench.told()
    bench.undone_in_order(bench.shapes["linear"])
    bench.recorded_truly(ended)
    assert _record(bench, ended, "b").undo_tries == fails + 1
    assert bench.words("broke") == ["b"] * fails


def test_an_undo_that_fails_each_time_parks_its_job_naming_task_error_and_tries(bench):
    parked = _failed(bench, "b", 99, revert_retries=2)

    assert (parked.state, parked.not_undone) == ("parked", ["a", "b"])
    assert parked.park_reason == "the undo of b failed (3 tries): Broken: the undo of b broke"
    assert bench.words("broke") == ["b"] * 3


def test_an_unparked_job_has_all_tries_again(bench):
    parked = _failed(bench, "b", 5, revert_retries=2)

    bench.poster.unpark(parked.id)

    ended = bench.final(parked)
    assert (ended.state, ended.undo) == ("failed", "complete"), bench.told()
    assert _record(bench, ended, "b").undo_tries == 6


def test_another_branch_is_undone_while_an_undo_is_waited_with(bench):
    job = bench.post("diamond", {"bottom": ["fail"], "undo left": ["fail"]})
    conductor = bench.start(revert_retries=1, revert_retry_seconds=3600.0)
    bench.until("the other branch is undone", lambda: bench.words("undo")[-1:] == ["right"])

    # A drain ends the wait; whoever comes next tries at once, and knows how often it has failed.
    bench.stop(conductor)
    assert bench.poster.show(job.id).state == "pending"
    assert _record(bench, job, "left").undo_error == "Broken: the undo of left broke"
    bench.start(revert_retries=1)

    ended = bench.final(job)
    assert (ended.state, ended.undo) == ("failed", "complete"), bench.told()
    bench.undone_in_order(bench.shapes["diamond"])
    assert _record(bench, job, "left").undo_tries == 2


def test_tries_count_over_all_who_hold_the_job(bench):
    job = bench.post("linear", {"d": ["fail"], "undo b": ["fail"] * 9})
    conductor = bench.start(revert_retries=1, revert_retry_seconds=3600.0)
    bench.until("the undo of b has failed", lambda: bench.words("broke") == ["b"])
    bench.stop(conductor)

    bench.start(revert_retries=1, revert_retry_seconds=3600.0)

    parked = bench.final(job)
    assert parked.park_reason == "the undo of b failed (2 tries): Broken: the undo of b broke"


def test_a_cancel_while_an_undo_is_waited_with_is_kept(bench):
    job = bench.post("linear", {"d": ["fail"], "undo b": ["fail"]})
    conductor = bench.start(revert_retries=1, revert_retry_seconds=3600.0)
    bench.until("the undo of b has failed", lambda: bench.words("broke") == ["b"])
    bench.cancel(job)
    bench.stop(conductor)

    bench.start(revert_retries=1)

    ended = bench.cancelled_and_undone(job, bench.shapes["linear"])
    assert (ended.error, ended.error_task) == ("Broken: d broke", "d")
