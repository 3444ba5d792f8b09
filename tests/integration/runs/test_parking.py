"""A parked job that goes on, or is closed as it is. What had failed to undo is undone with its true result.

Promises: P3 (a cancel is not lost), P7 (what began is undone, or a person accepted that it is not).
"""

import json

import pytest
from taskflow import retry
from taskflow.engines.action_engine.completer import RevertAll
from taskflow.patterns import linear_flow, unordered_flow

# Flow, its last task, the one whose undo fails, what is held by that.
CASES = [
    ("linear", "d", "b", {"a"}),
    ("linear", "d", "d", {"a", "b", "c"}),
    ("unordered", "f", "c", set()),
    ("diamond", "bottom", "left", {"top"}),
    ("nested", "last", "p2", {"p1", "first"}),
    ("times", "c", "b", {"a"}),
    ("foreach", "c", "a", set()),
    ("times-in-times", "after", "x", {"before"}),
    ("revert-in-plain", "last", "y", {"x", "first"}),
    ("fan-retried", "d", "b", set()),
    ("branches", "y", "x", set()),
    ("tries-beside-tries", "y", "x", set()),
    ("decided", "taken", "root", set()),
]
# How often a flow begins before it gives up.
ROUNDS = {
    "times": 3,
    "foreach": 3,
    "times-in-times": 2,
    "fan-retried": 2,
    "branches": 3,
    "tries-beside-tries": 3,
}


def _park(bench, flow, last, broken, *, how, fails):
    """A job whose undo of `broken` has failed, and does so `fails` times."""
    rounds = ROUNDS.get(flow, 1) if how == "failed" else 1
    plan = {last: ["break"] * rounds if how == "failed" else ["hold"]}
    job = bench.run(flow, plan | {f"undo {broken}": ["pass"] * (rounds - 1) + ["fail"] * fails})
    for _ in range(rounds):
        bench.reached(f"execute {last}")
        bench.ended(*bench.shapes[flow].without(last))
        if how == "failed":
            bench.gates.open(f"execute {last}")
        else:
            bench.cancel(job)
    assert bench.final(job).state == "parked", bench.told()
    return job


def _tries(bench, job):
    """How often the undo of each task was tried in its last round."""
    records = sorted(bench.poster.tasks(job.id), key=lambda record: record.round)
    return {record.task: record.undo_tries for record in records}


def _names(bench, job):
    return [entry.name for entry in bench.poster.entries(job.id)]


def _outcome(bench, job, attempt=1):
    ((state, undo, error, task),) = bench.sql(
        "SELECT state, undo, error, error_task FROM job_outcomes WHERE job = ? AND attempt = ?",
        job.id,
        attempt,
    )
    return state, undo, error, task


def _undone(bench, job, shape, *, state):
    """The job has ended so, with everything undone in order and with the true results."""
    ended = bench.final(job)
    assert (ended.state, ended.undo, ended.not_undone) == (state, "complete", []), bench.told()
    bench.undone_in_order(shape)
    bench.recorded_truly(job)
    (asked,) = bench.sql("SELECT count(*) FROM job_cancels WHERE job = ? AND reverted_at IS NOT NULL", job.id)
    assert asked == (1 if state == "cancelled" else 0,)
    return ended


# An undo that failed is done again.


@pytest.mark.parametrize("how", ["failed", "cancelled"])
@pytest.mark.parametrize(("flow", "last", "broken", "held"), CASES)
def test_an_undo_that_failed_is_done_again_then_that_of_what_was_held(bench, flow, last, broken, held, how):
    job = _park(bench, flow, last, broken, how=how, fails=1)
    assert set(bench.poster.show(job.id).not_undone) == {broken} | held

    bench.poster.unpark(job.id)

    ended = _undone(bench, job, bench.shapes[flow], state=how)
    expected = (f"Broken: {last} broke", last) if how == "failed" else (None, None)
    assert (ended.error, ended.error_task) == expected
    assert _outcome(bench, job) == (how, "complete", *expected)
    tries = _tries(bench, job)
    assert tries.pop(broken) == 2
    assert set(tries.values()) == {1}
    assert _names(bench, job)[-4:] == ["parked", "unparked", "claimed", how]


@pytest.mark.parametrize("how", ["failed", "cancelled"])
@pytest.mark.parametrize(("flow", "last", "broken", "held"), CASES)
def test_an_undo_that_fails_again_parks_the_job_again(bench, flow, last, broken, held, how):
    job = _park(bench, flow, last, broken, how=how, fails=3)
    shape = bench.shapes[flow]

    for tries in (2, 3):
        bench.poster.unpark(job.id)
        parked = bench.final(job)
        told = f"the undo of {broken} failed ({tries} tries): Broken: the undo of {broken} broke"
        assert (parked.state, parked.park_reason) == ("parked", told)
        assert set(parked.not_undone) == {broken} | held
        bench.undone_in_order(shape, stays={broken} | held)
        assert _tries(bench, job)[broken] == tries
    bench.poster.unpark(job.id)

    _undone(bench, job, shape, state=how)
    reasons = bench.sql("SELECT reason, task FROM job_parks WHERE job = ? ORDER BY number", job.id)
    assert [task for _, task in reasons] == [broken] * 3
    assert len({reason for reason, _ in reasons}) == 3


def test_an_undo_that_fails_for_ever_parks_the_job_for_ever_until_it_is_accepted(bench):
    job = _park(bench, "nested", "last", "q1", how="failed", fails=99)
    for _ in range(5):
        bench.poster.unpark(job.id)
        assert bench.final(job).state == "parked"
    before = bench.effects

    accepted = bench.poster.accept(job.id, "the folder is gone anyway")

    assert (accepted.state, accepted.undo, accepted.not_undone) == ("failed", "accepted", ["first", "q1"])
    assert bench.effects == before
    assert _tries(bench, job)["q1"] == 6


def test_a_conductor_that_knows_nothing_of_the_first_run_does_the_undo_again(bench):
    shape = bench.shapes["linear"]
    job = bench.post("linear", {"d": ["fail"], "undo b": ["fail"]})
    first = bench.start()
    bench.final(job)
    bench.stop(first)
    bench.poster.unpark(job.id)

    bench.start()

    _undone(bench, job, shape, state="failed")


def test_two_undos_that_failed_are_both_done_again_and_the_one_that_fails_again_parks_the_job_again(bench):
    @bench.registry.flow("pair")
    def pair(folder, plan):
        step = bench.steps.Step
        return linear_flow.Flow("pair").add(
            step("a"), unordered_flow.Flow("both").add(step("b"), step("c")), step("d")
        )

    job = bench.post("pair", {"d": ["fail"], "undo b": ["fail"], "undo c": ["fail", "fail"]})
    bench.start()
    reason = bench.final(job).park_reason
    assert all(f"the undo of {task} failed: Broken: the undo of {task} broke" in reason for task in "bc")

    bench.poster.unpark(job.id)
    again = bench.final(job)
    assert (again.state, again.not_undone) == ("parked", ["a", "c"])
    assert again.park_reason == "the undo of c failed (2 tries): Broken: the undo of c broke"
    bench.poster.unpark(job.id)

    assert bench.final(job).state == "failed"
    assert bench.words("undo") == ["d", "b", "c", "a"]
    assert bench.given() == {"d": "INTERRUPTED"}
    assert _tries(bench, job) == {"a": 1, "b": 2, "c": 3, "d": 1}


def test_an_undo_that_failed_in_a_retry_round_is_done_again_and_no_further_round_begins(bench):
    shape = bench.shapes["branches"]
    job = bench.run("branches", {"p": ["gate"], "y": ["fail"], "undo x": ["fail"]})
    bench.reached("execute p")
    bench.until("the undo of x has failed", lambda: bench.words("broke") == ["x"])
    bench.gates.open("execute p")
    assert bench.final(job).state == "parked"
    began = bench.words("begin")

    bench.poster.unpark(job.id)

    ended = _undone(bench, job, shape, state="failed")
    assert (ended.error_task, bench.words("begin")) == ("y", began)


def test_an_undo_that_fails_in_a_retry_round_holds_nothing_beside_it(bench):
    @bench.registry.flow("beside")
    def beside(folder, plan):
        retried = linear_flow.Flow("retried", retry.Times(3, "tries")).add(*map(bench.steps.Step, "xy"))
        return unordered_flow.Flow("beside").add(bench.steps.Step("z"), retried)

    job = bench.post("beside", {"y": ["break"], "undo x": ["fail"]})
    bench.start()
    bench.reached("execute y")
    bench.ended("z")
    bench.gates.open("execute y")

    assert bench.final(job).state == "parked"
    assert bench.words("undo") == ["y", "z"]
    assert bench.poster.show(job.id).not_undone == ["x"]


def test_a_task_that_raised_and_whose_undo_failed_is_undone_as_interrupted(bench):
    job = bench.run("linear", {"c": ["fail"], "undo c": ["fail"]})
    assert bench.final(job).not_undone == ["a", "b", "c"]

    bench.poster.unpark(job.id)

    ended = _undone(bench, job, bench.shapes["linear"], state="failed")
    assert (ended.error_task, bench.given()) == ("c", {"c": "INTERRUPTED"})


def test_a_retry_controller_whose_revert_failed_is_reverted_again(bench):
    reverts = []

    def fails_once(self, *args, **kwargs):
        reverts.append(self.name)
        if len(reverts) == 1:
            raise ValueError("bad controller")

    controller = type("Bad", (retry.Times,), {"revert": fails_once})

    @bench.registry.flow("bad")
    def flow(folder, plan):
        inner = linear_flow.Flow("inner", controller(1, "tries")).add(*map(bench.steps.Step, "ab"))
        return linear_flow.Flow("bad").add(bench.steps.Step("first"), inner)

    job = bench.post("bad", {"b": ["fail"]})
    bench.start()
    parked = bench.final(job)
    assert (parked.state, parked.not_undone) == ("parked", ["first"])
    assert "bad controller" in parked.park_reason

    bench.poster.unpark(job.id)

    ended = bench.final(job)
    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", "b")
    assert (reverts, bench.words("undo")) == (["tries"] * 2, ["b", "a", "first"])
    assert bench.given() == {"b": "INTERRUPTED"}
    bench.recorded_truly(job)


def test_the_error_of_a_job_that_no_task_is_to_blame_for_is_kept(bench):
    @bench.registry.flow("large")
    def large(folder, plan):
        return linear_flow.Flow("large").add(*map(bench.steps.Step, "abc"))

    job = bench.post("large", {"a": ["large"], "b": ["large"], "undo b": ["fail"]})
    bench.start()
    parked = bench.final(job)
    assert (parked.state, parked.error[:22]) == ("parked", "the result of the job ")

    bench.poster.unpark(job.id)

    ended = bench.final(job)
    assert (ended.state, ended.undo, ended.error) == ("failed", "complete", parked.error)


def test_a_drain_in_the_middle_of_the_repaired_undo_loses_nothing(bench):
    job = bench.run("linear", {"d": ["fail"], "undo c": ["fail", "gate"]})
    bench.final(job)
    (first,) = bench.conductors
    bench.poster.unpark(job.id)
    bench.reached("undo c")
    bench.drain(first)
    bench.gates.open("undo c")
    bench.drained(first)
    assert bench.poster.show(job.id).state == "pending"

    bench.start()

    _undone(bench, job, bench.shapes["linear"], state="failed")
    assert _tries(bench, job) == {"a": 1, "b": 1, "c": 2, "d": 1}


def test_an_undo_that_failed_before_a_drain_is_tried_again_by_whoever_goes_on(bench):
    job = bench.run("nested", {"last": ["fail"], "undo p2": ["fail"], "undo q2": ["gate"]})
    (first,) = bench.conductors
    bench.reached("undo q2")
    bench.until("the undo of p2 has failed", lambda: bench.words("broke") == ["p2"])
    bench.drain(first)
    bench.gates.open("undo q2")
    bench.drained(first)
    assert bench.poster.show(job.id).state == "pending"

    bench.start()

    _undone(bench, job, bench.shapes["nested"], state="failed")
    assert "parked" not in _names(bench, job)


@pytest.mark.altered_by_hand("the crash is made up: a raised epoch without a claim")
def test_an_undo_that_failed_just_before_a_crash_in_a_retry_round_lets_nothing_more_begin(bench):
    """The commit of a sibling may store the failed undo before what follows from it is there to be stored."""

    class Saves(bench.steps.Step):
        def _do(self, word, folder):
            bench.steps.pass_gate(folder, "save")
            self.checkpoint({"half": True})
            bench.steps.pass_gate(folder, "saved")
            return {}

    @bench.registry.flow("saves")
    def saves(folder, plan):
        retried = linear_flow.Flow("retried", retry.Times(3, "tries")).add(*map(bench.steps.Step, "xy"))
        return unordered_flow.Flow("saves").add(Saves("p"), retried)

    once = iter(["follow"])
    bench.gate_before(RevertAll, "apply", lambda self: next(once, None))
    job = bench.post("saves", {"y": ["fail"], "undo x": ["fail"]})
    bench.start()
    bench.reached("save", "follow")
    bench.gates.open("save")
    bench.reached("saved")
    assert bench.sql("SELECT state FROM atomdetails WHERE name = 'x'") == [("REVERT_FAILURE",)]
    assert bench.sql("SELECT intention FROM atomdetails WHERE name = 'tries'") == [("RETRY",)]
    bench.sql("UPDATE jobs SET epoch = epoch + 1, owner = 'gone' WHERE id = ?", job.id)
    bench.gates.open("saved")
    bench.gates.open("follow")

    assert bench.final(job).state == "failed"
    assert sorted(bench.words("begin")) == ["p", "x", "y"]
    assert sorted(bench.words("undo")) == ["p", "x", "y"]
    # The end of p was in no commit; x, whose undo had failed, has its true result.
    assert bench.given() == {"p": "INTERRUPTED", "y": "INTERRUPTED"}


# A cancel request meets a parked job.


@pytest.mark.parametrize("failed", [True, False], ids=["failed", "cancelled before"])
def test_a_job_that_was_cancelled_while_it_was_parked_ends_cancelled_once_it_is_unparked(bench, failed):
    job = _park(bench, "linear", "d", "b", how="failed" if failed else "cancelled", fails=1)
    assert bench.cancel(job, "anyway").answer == ("accepted" if failed else "already requested")

    bench.poster.unpark(job.id)

    ended = _undone(bench, job, bench.shapes["linear"], state="cancelled")
    assert ended.cancel.reason == ("anyway" if failed else "enough")
    assert ended.error_task == ("d" if failed else None), "the failure is kept beside the cancel"


def test_a_cancel_in_the_middle_of_the_repaired_undo_is_kept(bench):
    job = bench.run("diamond", {"bottom": ["fail"], "undo left": ["fail", "gate"]})
    bench.final(job)
    bench.poster.unpark(job.id)
    bench.reached("undo left")

    assert bench.cancel(job).answer == "accepted"
    bench.forwarded(job)
    bench.gates.open("undo left")

    _undone(bench, job, bench.shapes["diamond"], state="cancelled")
    assert _tries(bench, job)["left"] == 2


def test_a_cancel_that_meets_the_end_of_the_repaired_undo_is_kept_with_every_signal_lost(bench):
    bench.deafen()
    job = bench.run("linear", {"d": ["fail"], "undo a": ["fail", "gate"]})
    bench.final(job)
    bench.poster.unpark(job.id)
    bench.reached("undo a")

    bench.cancel(job)
    bench.gates.open("undo a")

    _undone(bench, job, bench.shapes["linear"], state="cancelled")


def test_a_cancel_before_the_claim_of_an_unparked_job_is_kept(bench):
    job = bench.run("linear", {"d": ["fail"], "undo b": ["fail"]})
    bench.final(job)
    bench.stop(bench.conductors[0])
    bench.poster.unpark(job.id)

    answer = bench.cancel(job)
    bench.start()

    assert (answer.answer, answer.job.phase) == ("accepted", "cancelling")
    _undone(bench, job, bench.shapes["linear"], state="cancelled")


# Nothing had failed to undo.


def _change_shape(bench, *, drained_at):
    """A job that is parked since its flow has another shape than it began with; and that, to be mended."""
    names = ["a", "b", "c"]

    @bench.registry.flow("shifting")
    def shifting(folder, plan):
        return linear_flow.Flow("shifting").add(*map(bench.steps.Step, names))

    job = bench.post("shifting", {drained_at: ["gate"]})
    first = bench.start()
    bench.reached(f"execute {drained_at}")
    bench.drain(first)
    bench.gates.open(f"execute {drained_at}")
    bench.drained(first)
    names[:] = ["a", "x"]
    bench.start()
    parked = bench.final(job)
    assert parked.park_reason == "flow shifting@1 has another shape now than when this attempt began"
    return job, names


def test_a_job_whose_flow_fits_again_goes_on_forwards(bench):
    job, names = _change_shape(bench, drained_at="b")
    assert bench.poster.show(job.id).not_undone == ["a", "b"]
    bench.poster.unpark(job.id)
    assert bench.final(job).state == "parked", "it does not fit yet"
    names[:] = ["a", "b", "c"]

    bench.poster.unpark(job.id)

    assert bench.final(job).state == "completed"
    assert bench.effects == [f"{word} {task}" for task in "abc" for word in ("begin", "end")]
    assert _names(bench, job).count("parked") == 2


def test_a_job_that_was_cancelled_meanwhile_goes_backwards_although_nothing_had_failed(bench):
    job, names = _change_shape(bench, drained_at="b")
    bench.cancel(job)
    names[:] = ["a", "b", "c"]

    bench.poster.unpark(job.id)

    ended = bench.final(job)
    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert bench.words("undo") == ["b", "a"]
    assert "c" not in bench.words("begin")


# Accepted as it is.


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_job_that_is_accepted_as_it_is_lists_what_is_not_undone_and_can_be_retried(bench, how):
    job = _park(bench, "nested", "last", "p2", how=how, fails=9)
    undone = bench.words("undo")

    accepted = bench.poster.accept(job.id, "cleaned up by hand")

    dirty = ["first", "p1", "p2"]
    assert (accepted.state, accepted.phase, accepted.undo) == (how, how, "accepted")
    assert sorted(accepted.not_undone) == dirty
    assert accepted.error == ("Broken: last broke" if how == "failed" else None)
    assert _outcome(bench, job)[:2] == (how, "accepted")
    if how == "cancelled":
        assert accepted.cancel.reverted_at is None
    entry = bench.poster.entries(job.id)[-1]
    assert (entry.name, entry.from_state, entry.to_state) == (f"accepted_as_{how}", "parked", how)
    assert entry.detail["reason"] == "cleaned up by hand"
    assert sorted(entry.detail["not_undone"]) == dirty
    assert json.loads(json.dumps(accepted.as_dict()))["not_undone"] == accepted.not_undone

    bench.retry(job)
    again = bench.final(job)
    assert (again.state, again.attempt, again.undo, again.not_undone) == ("completed", 2, "none", [])
    assert bench.words("undo") == undone, "the second attempt undoes nothing of the first"
    assert _outcome(bench, job)[:2] == (how, "accepted")


def test_a_job_whose_second_attempt_parks_does_the_undo_of_that_attempt_again(bench):
    """The first attempt was accepted with the same task not undone: that is left alone."""
    job = _park(bench, "linear", "d", "b", how="failed", fails=1)
    bench.poster.accept(job.id, "never mind")
    plan = {"d": ["pass", "fail"], "undo b": ["fail", "fail"]}
    bench.sql(
        "UPDATE job_parameters SET parameters = ? WHERE job = ?",
        json.dumps({"folder": str(bench.folder), "plan": plan}),
        job.id,
    )
    bench.retry(job)
    parked = bench.final(job)
    assert (parked.state, parked.attempt, parked.not_undone) == ("parked", 2, ["a", "b"])

    bench.poster.unpark(job.id)

    ended = bench.final(job)
    assert (ended.state, ended.undo) == ("failed", "complete")
    records = {(r.attempt, r.task): r for r in bench.poster.tasks(job.id)}
    assert [records[1, task].undo_ended_at for task in "ab"] == [None, None]
    assert [records[2, task].undo_tries for task in "abcd"] == [1, 2, 1, 1]
    assert bench.given() == {"d": "INTERRUPTED"}


# The undo of a task is left out, on the word of a person.


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_an_undo_that_is_left_out_stays_what_it_held_is_undone_and_the_job_says_so(bench, how):
    """P7: or a person accepted that it is not."""
    job = _park(bench, "diamond", "bottom", "left", how=how, fails=99)

    bench.poster.unpark(job.id, skip="left", reason="removed by hand")

    ended = bench.final(job)
    assert (ended.state, ended.undo, ended.not_undone) == (how, "accepted", ["left"]), bench.told()
    assert (bench.words("undo")[-1], sorted(bench.words("undo"))) == ("top", ["bottom", "right", "top"])
    told = bench.poster.receipt(job.id)
    assert [each.task for each in told.undone][-1] == "top"
    assert [(each.task, each.why) for each in told.not_undone] == [("left", "left out: removed by hand")]
