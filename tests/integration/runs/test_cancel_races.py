"""A cancel that meets a claim, a drain or another attempt at the worst moment; and at random ones."""

import random
import threading
from collections import Counter

import pytest
from taskflow import retry
from taskflow.patterns import linear_flow

from ebbtide.conductor.execution import Execution
from ebbtide.conductor.journal import Journal
from ebbtide.errors import TooLate
from ebbtide.jobs.claims import Claims


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "every signal lost"])
def test_cancel_of_a_claimed_job_of_which_nothing_has_begun_begins_nothing(bench, heard):
    shape = bench.shapes["unordered"]
    bench.gate_before(Execution, "run", lambda self: "claimed")
    if not heard:
        bench.deafen()
    job = bench.run("unordered")
    bench.reached("claimed")

    bench.cancel(job)
    if heard:
        bench.forwarded(job)
    bench.gates.open("claimed")

    bench.cancelled_and_undone(job, shape)
    assert bench.effects == ["accepted"]


def test_cancel_with_every_worker_busy_begins_none_of_the_tasks_that_queue(bench):
    shape = bench.shapes["unordered"]
    job = bench.run("unordered", {task: ["hold"] for task in shape.tasks})
    bench.until("two tasks run", lambda: len(bench.words("begin")) == 2)

    bench.cancel(job)

    bench.cancelled_and_undone(job, shape)
    assert len(bench.words("begin")) == 2
    assert sorted(bench.given()) == sorted(bench.words("begin"))


def test_two_tasks_that_begin_in_one_commit_are_both_refused(bench):
    shape = bench.shapes["unordered"]
    first_two = iter(["commit", "commit"])
    bench.gate_before(Journal, "commit", lambda self: next(first_two, None))
    bench.deafen()
    job = bench.run("unordered")
    bench.reached("commit", "commit")

    bench.cancel(job)
    bench.gates.open("commit")
    bench.gates.open("commit")

    bench.cancelled_and_undone(job, shape)
    assert bench.effects == ["accepted"]


@pytest.mark.parametrize("cancelled", [False, True], ids=["goes on", "cancelled"])
def test_a_sibling_that_ends_after_another_has_failed_is_undone_before_the_next_round(bench, cancelled):
    shape = bench.shapes["fan-retried"]
    job = bench.run("fan-retried", {"a": ["fail"], "b": ["gate"]})
    bench.reached("execute b")
    bench.ended("c")
    bench.until("a and c are undone", lambda: sorted(bench.words("undo")) == ["a", "c"])
    if cancelled:
        bench.cancel(job)

    bench.gates.open("execute b")

    if cancelled:
        bench.cancelled_and_undone(job, shape)
        assert Counter(bench.words("begin")) == {"a": 1, "b": 1, "c": 1}
    else:
        assert bench.final(job).state == "completed"
        bench.undone_in_order(shape, stays=shape.tasks)
        assert Counter(bench.words("begin")) == {"a": 2, "b": 2, "c": 2, "d": 1}


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_one_worker_undoes_siblings_newest_first(bench, how):
    last = {"fails": "break", "is cancelled": "late"}[how]
    job = bench.post("nested", {"last": [last]})
    bench.start(1)
    bench.reached("execute last")
    if how == "fails":
        bench.gates.open("execute last")
    else:
        bench.cancel(job)

    bench.final(job)

    bench.undone_in_order(bench.shapes["nested"])
    assert bench.words("undo") == bench.words("begin")[::-1]


def test_one_worker_undoes_the_siblings_of_a_round_newest_first(bench):
    job = bench.post("fan-retried", {"d": ["fail"]})
    bench.start(1)

    assert bench.final(job).state == "completed"

    first_round = bench.words("begin")[:4]
    assert bench.words("undo") == first_round[::-1]


def _drained_inside(bench, shape, task):
    """A job that a drained conductor has released when `task` had returned."""
    job = bench.post(shape.name, {task: ["gate"]})
    first = bench.start(shape.workers)
    bench.reached(f"execute {task}")
    bench.ended(*shape.without(task))
    bench.drain(first)
    bench.gates.open(f"execute {task}")
    bench.drained(first)
    return job


def test_a_job_that_is_drained_inside_a_task_goes_on_after_it(bench, shape):
    task = shape.tasks[0]
    job = _drained_inside(bench, shape, task)
    assert bench.poster.show(job.id).state == ("pending" if shape.after(task) else "completed")
    assert set(bench.words("begin")) == shape.without(task) | {task}

    bench.start(shape.workers)

    ended = bench.final(job)
    assert (ended.state, ended.attempt) == ("completed", 1)
    bench.undone_in_order(shape, stays=shape.tasks)
    bench.recorded_truly(job)
    assert Counter(bench.effects) == Counter(f"{w} {task}" for task in shape.tasks for w in ("begin", "end"))


def test_cancel_of_a_job_that_a_drained_conductor_released_half_done_undoes_it(bench, middle):
    shape, task = middle
    job = _drained_inside(bench, shape, task)

    answer = bench.cancel(job)
    assert (answer.answer, answer.job.phase) == ("accepted", "cancelling")
    bench.start(shape.workers)

    bench.cancelled_and_undone(job, shape)
    assert set(bench.words("begin")) == shape.without(task) | {task}
    assert bench.given() == {}


def test_cancel_of_a_job_that_was_drained_while_it_reverted_goes_on_backwards_and_keeps_the_failure(bench):
    shape = bench.shapes["linear"]
    job = bench.post("linear", {"d": ["fail"], "undo c": ["gate"]})
    first = bench.start()
    bench.reached("undo c")
    bench.drain(first)
    bench.gates.open("undo c")
    bench.drained(first)
    assert bench.poster.show(job.id).state == "pending"
    assert bench.words("undo") == ["d", "c"]

    bench.cancel(job)
    bench.start()

    ended = bench.cancelled_and_undone(job, shape)
    assert bench.words("undo") == ["d", "c", "b", "a"]
    assert (ended.error_task, ended.error) == ("d", "Broken: d broke")


def test_a_job_that_was_drained_in_a_later_round_goes_on_in_that_round(bench):
    job = bench.post("times", {"b": ["fail", "gate"]})
    first = bench.start()
    bench.reached("execute b")
    bench.drain(first)
    bench.gates.open("execute b")
    bench.drained(first)

    bench.start()

    assert bench.final(job).state == "completed", bench.told()
    assert bench.words("begin") == ["a", "b", "a", "b", "c"]
    bench.undone_in_order(bench.shapes["times"], stays=["a", "b", "c"])


def test_a_job_that_was_drained_in_a_later_round_goes_on_with_the_next_value(bench):
    values = []

    class Trying(bench.steps.Step):
        def execute(self, folder, plan, value):
            values.append(value)
            return super().execute(folder, plan)

    @bench.registry.flow("trying")
    def trying(folder, plan):
        tries = retry.ForEach([10, 20, 30], "tries", provides="value")
        return linear_flow.Flow("trying", tries).add(Trying("a"), bench.steps.Step("b"))

    job = bench.post("trying", {"a": ["fail", "gate"], "b": ["fail"]})
    first = bench.start()
    bench.reached("execute a")
    bench.drain(first)
    bench.gates.open("execute a")
    bench.drained(first)

    bench.start()

    assert bench.final(job).state == "completed", bench.told()
    assert values == [10, 20, 30]


def test_cancel_of_a_job_that_was_drained_in_a_later_round_undoes_that_round(bench):
    shape = bench.shapes["times-in-times"]
    job = bench.post(shape.name, {"y": ["fail", "fail", "gate"]})
    first = bench.start()
    bench.reached("execute y")
    bench.drain(first)
    bench.gates.open("execute y")
    bench.drained(first)
    assert bench.poster.show(job.id).state == "pending"

    bench.cancel(job)
    bench.start()

    bench.cancelled_and_undone(job, shape)
    assert Counter(bench.words("begin")) == {"before": 2, "x": 3, "y": 3}


def test_a_drain_and_a_cancel_at_once_end_in_a_cancelled_job(bench):
    shape = bench.shapes["linear"]
    job = bench.post("linear", {"b": ["gate"]})
    first = bench.start()
    bench.reached("execute b")

    bench.cancel(job)
    bench.drain(first)
    bench.gates.open("execute b")
    bench.drained(first)
    bench.start()

    bench.cancelled_and_undone(job, shape)


def test_nothing_is_told_of_an_attempt_after_its_end(bench):
    bench.gate_before(Claims, "forwarded", lambda self, *request: "telling")
    job = bench.run("linear", {"b": ["hold"]})
    bench.reached("execute b")
    bench.cancel(job)
    bench.reached("telling")
    bench.final(job)

    bench.gates.open("telling")
    bench.until("the request is told to be forwarded", lambda: bench.poster.show(job.id).cancel.forwarded_at)

    names = [entry.name for entry in bench.poster.entries(job.id)]
    assert names[-1] == "cancelled"


def test_a_request_of_one_attempt_is_not_told_to_be_forwarded_in_the_next(bench):
    bench.gate_before(Claims, "forwarded", lambda self, *request: "telling")
    job = bench.post("linear", {"b": ["hold"]})
    conductor = bench.start()
    bench.reached("execute b")
    bench.cancel(job)
    bench.reached("telling")
    bench.final(job)

    bench.retry(job)
    bench.cancel(job, "again")
    bench.gates.open("telling")
    bench.stop(conductor)

    ended = bench.poster.show(job.id)
    assert (ended.state, ended.attempt, ended.cancel.reason) == ("cancelled", 2, "again")
    assert ended.cancel.forwarded_at is None, "nobody held the job, so nobody can have forwarded it"


def test_cancels_from_many_at_once_are_accepted_once(bench):
    shape = bench.shapes["linear"]
    job = bench.run("linear", {"c": ["gate"]})
    bench.reached("execute c")
    answers = []
    askers = [
        threading.Thread(target=lambda n=number: answers.append(bench.poster.cancel(job.id, f"reason {n}")))
        for number in range(8)
    ]

    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    bench.gates.open("execute c")

    ended = bench.cancelled_and_undone(job, shape)
    assert sorted(answer.answer for answer in answers) == ["accepted"] + ["already requested"] * 7
    assert {answer.job.cancel.reason for answer in answers} == {ended.cancel.reason}


def test_cancels_at_random_moments_find_no_third_case(bench):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    bench.start(2)
    for number in range(25):
        shape = chance.choice(list(bench.shapes.values()))
        # A failure or two on the way, so that some cancels meet a revert or a later round.
        plan = {task: chance.choices(["pass", "fail"], [6, 1], k=4) for task in shape.tasks}
        moment = chance.randrange(1 + 3 * len(shape.tasks))
        job = bench.in_folder(f"random-{number}").post(shape.name, plan)
        bench.until(
            "the moment has come",
            lambda job=job, moment=moment: len(bench.effects) >= moment or _rests(bench, job),
        )

        accepted = _asked(bench, job)
        ended = bench.final(job)

        told = f"seed {seed}, job {number}, {shape.name}: {bench.effects}\n{bench.told(job)}"
        assert ended.state in (["cancelled"] if accepted else ["completed", "failed"]), told
        bench.undone_in_order(shape, stays=shape.tasks if ended.state == "completed" else ())
        bench.recorded_truly(job)


def _rests(bench, job):
    return bench.poster.show(job.id).state in ("completed", "failed", "cancelled", "parked")


def _asked(bench, job):
    try:
        return bench.poster.cancel(job.id).answer == "accepted"
    except TooLate:
        return False
