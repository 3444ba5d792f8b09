"""A job that is paused, or goes back to a savepoint, and then goes on; with real runs.

Promises: P3 (a cancel is not lost), P6 (a task begins once a round), P7 (what began is undone).
"""

import pytest
from taskflow import retry
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows import savepoint

SAVED = "savepoint:saved"


@pytest.fixture
def line(bench):
    """a, b, the savepoint, c, d."""
    step = bench.steps.Step

    @bench.registry.flow("line")
    def line(folder, plan):
        return linear_flow.Flow("line").add(step("a"), step("b"), savepoint("saved"), step("c"), step("d"))


@pytest.fixture
def fork(bench):
    """top; then left, the savepoint, inner and, beside these, right; then bottom."""
    step = bench.steps.Step

    @bench.registry.flow("fork")
    def fork(folder, plan):
        parted = linear_flow.Flow("parted").add(step("left"), savepoint("saved"), step("inner"))
        beside = unordered_flow.Flow("beside").add(parted, step("right"))
        return linear_flow.Flow("fork").add(step("top"), beside, step("bottom"))


def _is(bench, job, state):
    bench.until(f"the job is {state}", lambda: bench.poster.show(job.id).state == state)
    return bench.poster.show(job.id)


def _names(bench, job):
    return [entry.name for entry in bench.poster.entries(job.id)]


def _rounds(bench, job):
    return {r.task: r.round for r in sorted(bench.poster.tasks(job.id), key=lambda r: r.round)}


# Pause.


def test_a_paused_job_stops_between_tasks_undoes_nothing_and_goes_on_when_it_is_resumed(bench):
    job = bench.run("linear", {"b": ["gate"]})
    bench.reached("execute b")

    bench.poster.pause(job.id)
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute b")
    paused = _is(bench, job, "paused")

    assert (paused.attempt, paused.not_undone, paused.owner) == (1, [], None)
    assert (bench.words("end"), bench.words("undo")) == (["a", "b"], [])
    bench.poster.resume(job.id)
    assert bench.final(job).state == "completed", bench.told()
    assert bench.words("end") == ["a", "b", "c", "d"]
    assert _names(bench, job) == [
        "posted",
        "claimed",
        "pause_requested",
        "paused",
        "resumed",
        "claimed",
        "completed",
    ]
    assert [entry.attempt for entry in bench.poster.entries(job.id)] == [1] * 7


def test_a_pause_that_is_withdrawn_leaves_no_job_paused(bench):
    job = bench.run("linear", {"b": ["gate"]})
    bench.reached("execute b")
    bench.poster.pause(job.id)
    bench.until("the run is to stop", lambda: bench.stopping)

    bench.poster.resume(job.id)
    bench.gates.open("execute b")

    assert bench.final(job).state == "completed", bench.told()
    assert "paused" not in _names(bench, job)
    assert bench.words("end") == ["a", "b", "c", "d"]


def test_a_cancel_that_comes_before_a_pause_takes_hold_undoes_the_job(bench):
    """P3."""
    job = bench.run("linear", {"b": ["gate"]})
    bench.reached("execute b")
    bench.poster.pause(job.id)
    bench.until("the run is to stop", lambda: bench.stopping)

    bench.cancel(job)
    bench.gates.open("execute b")

    bench.cancelled_and_undone(job, bench.shapes["linear"])


def test_a_cancel_of_a_paused_job_undoes_what_it_had_done(bench):
    job = bench.run("linear", {"b": ["gate"]})
    bench.reached("execute b")
    bench.poster.pause(job.id)
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute b")
    _is(bench, job, "paused")

    bench.cancel(job)

    bench.cancelled_and_undone(job, bench.shapes["linear"])
    assert bench.words("undo") == ["b", "a"]


# Rewind.


def test_a_running_job_is_undone_back_to_the_savepoint_and_goes_on_from_there(bench, line):
    job = bench.post("line", {"d": ["gate"]})
    bench.start()
    bench.reached("execute d")

    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute d")
    paused = _is(bench, job, "paused")

    assert bench.words("undo") == ["d", "c"], bench.told()
    assert (paused.phase, paused.attempt, paused.tasks_undone) == ("paused", 1, 2)
    assert (paused.tasks_total, paused.tasks_done, paused.progress) == (4, 4, 0.5)  # no savepoint among them
    last = bench.poster.entries(job.id)[-1]
    assert (last.name, last.detail) == ("paused", {"savepoint": "saved", "undone": ["d", "c"]})

    bench.poster.resume(job.id)
    assert bench.final(job).state == "completed", bench.told()
    assert bench.words("end") == ["a", "b", "c", "d", "c", "d"]
    assert _rounds(bench, job) == {"a": 1, "b": 1, SAVED: 1, "c": 2, "d": 2}
    assert bench.given() == {}


def test_what_stands_beside_the_savepoint_stays_and_what_comes_after_both_is_undone(bench, fork):
    job = bench.post("fork", {"bottom": ["gate"]})
    bench.start()
    bench.reached("execute bottom")
    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)

    bench.gates.open("execute bottom")
    _is(bench, job, "paused")

    assert bench.words("undo") == ["bottom", "inner"], bench.told()
    bench.poster.resume(job.id)
    assert bench.final(job).state == "completed", bench.told()
    assert bench.words("end")[-2:] == ["inner", "bottom"]
    assert bench.words("end").count("right") == 1


def test_a_paused_job_is_rewound_and_paused_again(bench, line):
    job = bench.post("line", {"c": ["gate"]})
    bench.start()
    bench.reached("execute c")
    bench.poster.pause(job.id)
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute c")
    _is(bench, job, "paused")

    bench.poster.rewind(job.id, "saved")
    bench.until("it is rewound", lambda: bench.words("undo") == ["c"])
    _is(bench, job, "paused")

    # Twice in the same place: nothing is behind it any more.
    bench.poster.rewind(job.id, "saved")
    bench.until("it is paused again", lambda: _names(bench, job).count("paused") == 3)
    bench.poster.resume(job.id)
    assert bench.final(job).state == "completed", bench.told()
    assert bench.words("undo") == ["c"]


def test_a_rewound_job_that_is_cancelled_is_undone_with_the_true_results(bench, line):
    """P7."""
    job = bench.post("line", {"d": ["gate", "gate"]})
    bench.start()
    bench.reached("execute d")
    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute d")
    _is(bench, job, "paused")
    bench.poster.resume(job.id)
    bench.reached("execute d")

    bench.poster.cancel(job.id)
    bench.forwarded(job)
    bench.gates.open("execute d")

    ended = bench.final(job)
    assert (ended.state, ended.undo) == ("cancelled", "complete"), bench.told()
    assert bench.words("undo") == ["d", "c", "d", "c", "b", "a"]


def test_a_cancel_during_a_rewind_undoes_the_rest_as_well(bench, line):
    """P3."""
    job = bench.post("line", {"d": ["gate"], "undo c": ["gate"]})
    bench.start()
    bench.reached("execute d")
    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute d")
    bench.reached("undo c")

    bench.poster.cancel(job.id)
    bench.gates.open("undo c")

    ended = bench.final(job)
    assert (ended.state, ended.undo) == ("cancelled", "complete"), bench.told()
    assert bench.words("undo") == ["d", "c", "b", "a"]
    assert "paused" not in _names(bench, job)


def test_a_rewind_that_cannot_undo_parks_and_goes_on_with_it_once_that_is_mended(bench, line):
    job = bench.post("line", {"d": ["gate"], "undo c": ["fail"]})
    bench.start()
    bench.reached("execute d")
    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute d")
    parked = bench.final(job)
    assert parked.park_reason == "the undo of c failed: Broken: the undo of c broke"

    bench.poster.unpark(job.id)
    _is(bench, job, "paused")

    assert bench.words("undo") == ["d", "c"], bench.told()
    bench.poster.resume(job.id)
    assert bench.final(job).state == "completed", bench.told()
    assert bench.given() == {}


def test_whoever_takes_over_a_job_in_its_rewind_goes_on_with_it(bench, line):
    job = bench.post("line", {"d": ["gate"], "undo c": ["gate"]})
    first = bench.start()
    bench.reached("execute d")
    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute d")
    bench.reached("undo c")
    bench.drain(first)
    bench.gates.open("undo c")
    bench.drained(first)

    bench.start()

    _is(bench, job, "paused")
    assert bench.words("undo") == ["d", "c"], bench.told()
    bench.poster.resume(job.id)
    assert bench.final(job).state == "completed", bench.told()


def test_a_job_that_fails_before_it_stops_is_undone_and_not_rewound(bench, line):
    job = bench.post("line", {"d": ["break"]})
    bench.start()
    bench.reached("execute d")
    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)

    bench.gates.open("execute d")

    ended = bench.final(job)
    assert (ended.state, ended.undo, ended.error) == ("failed", "complete", "Broken: d broke"), bench.told()
    assert bench.words("undo") == ["d", "c", "b", "a"]


def test_a_retry_controller_behind_the_savepoint_begins_anew(bench):
    step = bench.steps.Step

    @bench.registry.flow("retried")
    def retried(folder, plan):
        again = linear_flow.Flow("again", retry.Times(2, "tries")).add(step("b"), step("c"))
        return linear_flow.Flow("retried").add(step("a"), savepoint("saved"), again, step("d"))

    # One of its two tries is used up before the rewind; after it there are two again.
    job = bench.post("retried", {"c": ["fail", "pass", "fail"], "d": ["gate"]})
    bench.start()
    bench.reached("execute d")
    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute d")
    _is(bench, job, "paused")

    bench.poster.resume(job.id)

    assert bench.final(job).state == "completed", bench.told()
    assert bench.words("end") == ["a", "b", "b", "c", "d", "b", "b", "c", "d"]
    assert bench.words("undo") == ["c", "b", "d", "c", "b", "c", "b"]


def test_a_rewind_whose_failed_undo_is_skipped_goes_on_with_it_and_then_forwards(bench, line):
    job = bench.post("line", {"d": ["gate"], "undo c": ["fail"]})
    bench.start()
    bench.reached("execute d")
    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute d")
    assert bench.final(job).state == "parked"

    bench.poster.unpark(job.id, skip="c", reason="mended by hand")
    _is(bench, job, "paused")

    assert bench.words("undo") == ["d"], bench.told()
    bench.poster.resume(job.id)
    assert bench.final(job).state == "completed", bench.told()
    assert bench.words("end") == ["a", "b", "c", "d", "c", "d"]


def test_an_undo_that_was_left_out_is_told_at_the_end_although_its_task_began_anew(bench, line):
    """P7: for each round. What c had done in its first one stands."""
    job = bench.post("line", {"d": ["gate", "gate"], "undo c": ["fail"]})
    bench.start()
    bench.reached("execute d")
    bench.poster.rewind(job.id, "saved")
    bench.until("the run is to stop", lambda: bench.stopping)
    bench.gates.open("execute d")
    assert bench.final(job).state == "parked"
    bench.poster.unpark(job.id, skip="c", reason="mended by hand")
    _is(bench, job, "paused")
    bench.poster.resume(job.id)
    bench.reached("execute d")

    bench.poster.cancel(job.id)
    bench.forwarded(job)
    bench.gates.open("execute d")

    ended = bench.final(job)
    assert bench.words("undo") == ["d", "d", "c", "b", "a"], bench.told()
    assert (ended.state, ended.undo, ended.not_undone) == ("cancelled", "accepted", ["c"])
    told = bench.poster.receipt(job.id)
    assert (told.complete, [each.task for each in told.undone]) == (False, ["d", "c", "b", "a"])
    (left,) = told.not_undone
    assert (left.task, left.why) == ("c", "left out in round 1: mended by hand")
