"""Every shape of flow cancelled at every moment: what began is undone, once and in order; nothing begins.

P2, P3, P4, P5 and P7. What happened is read from a log that the tasks write outside our database.
"""

from collections import Counter

import pytest

from ebbtide.conductor.journal import Journal
from ebbtide.errors import TooLate


def test_cancel_before_the_claim_runs_no_task(bench, shape):
    job = bench.post(shape.name)
    bench.cancel(job)

    bench.start()

    ended = bench.cancelled_and_undone(job, shape)
    assert bench.effects == ["accepted"]
    assert bench.final(bench.in_folder("later").post("linear")).state == "completed"
    assert bench.poster.show(job.id) == ended
    assert (ended.started_at, ended.undo) == (None, "none")


def test_cancel_before_a_task_begins_lets_it_not_begin(bench, place):
    shape, task = place
    job = _at_the_barrier_of(bench, shape, task)

    bench.cancel(job)
    bench.forwarded(job)
    bench.gates.open(f"before {task}")

    bench.cancelled_and_undone(job, shape)
    assert set(bench.words("begin")) == shape.without(task)
    assert bench.given() == {}


def test_cancel_whose_signals_are_all_lost_is_found_at_the_next_barrier(bench, shape):
    task = shape.tasks[-1]
    bench.deafen()
    job = _at_the_barrier_of(bench, shape, task)

    bench.cancel(job)
    bench.gates.open(f"before {task}")

    bench.cancelled_and_undone(job, shape)
    assert set(bench.words("begin")) == shape.without(task)


def _at_the_barrier_of(bench, shape, task):
    """A job whose `task` is about to ask whether it may begin; all that can be done without it is done."""
    bench.gate_before(Journal, "begin", lambda self, name: f"before {name}" if name == task else None)
    job = bench.run(shape.name)
    bench.reached(f"before {task}")
    bench.ended(*shape.without(task))
    return job


def test_cancel_while_a_begin_is_being_stored_lets_it_not_begin(bench, place):
    shape, task = place
    bench.gate_before(
        Journal,
        "_store_batch",
        lambda self, batch, outcome: f"storing {task}" if task in batch.beginning else None,
    )
    job = bench.run(shape.name)
    bench.reached(f"storing {task}")
    # No other commit gets past this one. What is stored as begun has passed its barrier, even if its
    # thread has not returned from there.
    passed = {record.task for record in bench.poster.tasks(job.id)}
    bench.cancel(job)
    bench.gates.open(f"storing {task}")

    bench.cancelled_and_undone(job, shape, passed=passed)
    assert set(bench.words("begin")) == passed


def test_cancel_inside_a_task_undoes_it_and_all_before_it(bench, place):
    shape, task = place
    job = bench.run(shape.name, {task: ["hold"]})
    bench.reached(f"execute {task}")
    bench.ended(*shape.without(task))

    bench.cancel(job)

    ended = bench.cancelled_and_undone(job, shape)
    assert set(bench.words("begin")) == shape.without(task) | {task}
    assert bench.given() == {task: "INTERRUPTED"}
    assert ended.error is None
    assert ended.cancel.delivered_at is not None
    how = {record.task: record.how for record in bench.poster.tasks(job.id)}
    assert how == dict.fromkeys(shape.without(task), "returned") | {task: "cancelled"}


def test_cancel_as_a_task_returns_undoes_it_with_its_result(bench, place):
    shape, task = place
    job = bench.run(shape.name, {task: ["late"]})
    bench.reached(f"execute {task}")
    bench.ended(*shape.without(task))

    bench.cancel(job)

    bench.cancelled_and_undone(job, shape)
    assert set(bench.words("begin")) == shape.without(task) | {task}
    assert bench.given() == {}
    assert {record.how for record in bench.poster.tasks(job.id)} == {"returned"}


def test_cancel_that_a_task_swallows_is_delivered_at_its_next_checkpoint(bench, shape):
    task = shape.tasks[-1]
    job = bench.run(shape.name, {task: ["swallow"]})
    bench.reached(f"execute {task}")
    bench.ended(*shape.without(task))

    bench.cancel(job)

    bench.cancelled_and_undone(job, shape)
    assert bench.words("swallowed") == [task]


def test_a_task_that_fails_on_a_cancel_is_undone_and_its_failure_kept(bench, shape):
    task = shape.tasks[-1]
    job = bench.run(shape.name, {task: ["spoil"]})
    bench.reached(f"execute {task}")
    bench.ended(*shape.without(task))

    bench.cancel(job)

    ended = bench.cancelled_and_undone(job, shape)
    assert (ended.error_task, ended.error) == (task, f"Broken: {task} broke")
    assert bench.words("begin").count(task) == 1


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "every signal lost"])
def test_cancel_before_the_outcome_is_stored_undoes_finished_work(bench, shape, heard):
    bench.gate_before(Journal, "finish", lambda self, outcome: "finish")
    if not heard:
        bench.deafen()
    job = bench.run(shape.name)
    bench.reached("finish")

    bench.cancel(job)
    if heard:
        bench.forwarded(job)
    bench.gates.open("finish")
    bench.reached("finish")
    bench.gates.open("finish")

    bench.cancelled_and_undone(job, shape)
    assert set(bench.words("begin")) == set(shape.tasks)
    assert bench.given() == {}


@pytest.mark.parametrize("word", ["hold", "late"])
def test_cancel_in_a_later_round_undoes_that_round(bench, later, word):
    shape, name, task = later
    job = bench.run(shape.name, shape.rounds[name].plan(task, word))
    bench.reached(f"execute {task}")
    for other in shape.without(task) - shape.before(task):
        bench.ended(other, times=shape.rounds[name].ends(other))

    bench.cancel(job)

    bench.cancelled_and_undone(job, shape)
    assert bench.words("begin").count(task) == shape.rounds[name].begun[task] + 1


def test_cancel_between_two_rounds_begins_no_other(bench, again):
    shape, name, task = again
    round_ = shape.rounds[name]
    undos = ["pass"] * (round_.begun[task] - 1) + ["gate"]
    job = bench.run(shape.name, {**round_.fails, f"undo {task}": undos})
    bench.reached(f"undo {task}")
    bench.ended(*(set(shape.tasks) - set(round_.begun) - shape.after(task)))

    bench.cancel(job)
    bench.gates.open(f"undo {task}")

    bench.cancelled_and_undone(job, shape)
    assert bench.words("begin").count(task) == round_.begun[task]


def test_cancel_while_reverting_after_a_failure_ends_cancelled_and_keeps_the_failure(bench, undoing):
    shape, task = undoing
    job = _reverting(bench, shape, task)

    bench.cancel(job)
    assert bench.poster.show(job.id).phase == "cancelling"
    bench.forwarded(job)
    bench.gates.open(f"undo {task}")

    ended = bench.cancelled_and_undone(job, shape)
    assert (ended.error_task, ended.error) == (shape.fatal, f"Broken: {shape.fatal} broke")
    assert Counter(bench.words("undo")) == Counter(shape.undone)


def test_cancel_whose_signals_are_all_lost_while_reverting_decides_the_outcome(bench, shape):
    bench.deafen()
    job = _reverting(bench, shape, shape.fatal)

    bench.cancel(job)
    bench.gates.open(f"undo {shape.fatal}")

    ended = bench.cancelled_and_undone(job, shape)
    assert (ended.error_task, ended.error) == (shape.fatal, f"Broken: {shape.fatal} broke")
    assert Counter(bench.words("undo")) == Counter(shape.undone)


def _reverting(bench, shape, task):
    """A job that has failed for good and is in the middle of the undo of `task`."""
    tries = shape.undone[shape.fatal]
    undos = ["pass"] * (shape.undone[task] - 1) + ["gate"]
    job = bench.run(shape.name, {shape.fatal: ["break"] * tries, f"undo {task}": undos})
    for _ in range(tries):
        bench.reached(f"execute {shape.fatal}")
        bench.ended(*(shape.without(shape.fatal) - shape.before(shape.fatal)))
        bench.gates.open(f"execute {shape.fatal}")
    bench.reached(f"undo {task}")
    assert bench.poster.show(job.id).phase == "reverting"
    return job


def test_cancel_twice_is_cancel_once_and_the_first_reason_stays(bench, shape):
    task = shape.tasks[-1]
    job = bench.run(shape.name, {task: ["gate"]})
    bench.reached(f"execute {task}")
    bench.ended(*shape.without(task))

    first = bench.cancel(job, "first")
    second = bench.cancel(job, "second")
    bench.gates.open(f"execute {task}")

    ended = bench.cancelled_and_undone(job, shape)
    third = bench.cancel(job, "third")
    assert [answer.answer for answer in (first, second, third)] == [
        "accepted",
        "already requested",
        "already requested",
    ]
    assert {answer.job.cancel.reason for answer in (first, second, third)} == {"first"}
    assert ended.cancel.reason == "first"
    requested = [entry for entry in bench.poster.entries(job.id) if entry.name == "cancel_requested"]
    assert len(requested) == 1


def test_cancel_after_completion_is_too_late_and_undoes_nothing(bench, shape):
    job = bench.run(shape.name)
    bench.final(job)
    before = bench.poster.entries(job.id)

    with pytest.raises(TooLate):
        bench.cancel(job)

    ended = bench.poster.show(job.id)
    assert (ended.state, ended.undo, ended.cancel) == ("completed", "none", None)
    assert Counter(bench.effects) == Counter(f"{w} {task}" for task in shape.tasks for w in ("begin", "end"))
    bench.recorded_truly(job)
    assert bench.poster.entries(job.id) == before


def test_cancel_after_failure_is_too_late(bench, shape):
    job = bench.run(shape.name, {shape.fatal: ["fail"] * shape.undone[shape.fatal]})
    bench.final(job)
    before = bench.effects

    with pytest.raises(TooLate):
        bench.cancel(job)

    ended = bench.poster.show(job.id)
    assert (ended.state, ended.undo, ended.cancel) == ("failed", "complete", None)
    assert ended.error_task == shape.fatal
    assert bench.effects == before
    bench.undone_in_order(shape)
    bench.recorded_truly(job)
