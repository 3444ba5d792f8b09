"""What tasks hand over to be stored: JSON within its limits, or the task fails, once, and is undone.

The store has no say in it: what one of them would refuse never gets there.
"""

import math

import pytest
from taskflow import retry
from taskflow.patterns import linear_flow

from ebbtide.tasks import CancelableTask


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


UNSTORABLE = {
    "nan": (math.nan, "is nan, which JSON does not have"),
    "infinity": ([-math.inf], "is -inf, which JSON does not have"),
    "bytes": (b"\xff", "is a bytes, which is not JSON"),
    "a set": ({1, 2}, "is a set, which is not JSON"),
    "a key that is no text": ({1: 2}, "has the key 1: keys must be text"),
    "deep": (nested(3000), "is nested deeper than 100 levels"),
    "a long number": (10**5000, "is an integer of more than 4,200 digits"),
    "large": ("x" * 2**20, "takes 1048578 bytes of JSON, more than the 1048576 allowed"),
}
ODD_TEXTS = ["nul \0", "half \ud800", "caf\udce9.txt", "\udfff\ud800", "\\u0000", "\x1b[2J"]

unstorable = pytest.mark.parametrize(("value", "told"), UNSTORABLE.values(), ids=UNSTORABLE)


class Does(CancelableTask):
    """Does what the test gives it, and notes its undo."""

    def __init__(self, name, body=lambda task: None):
        super().__init__(name=name, provides=name)
        self.body = body
        self.undone = []

    def execute(self):
        return self.body(self)

    def revert(self, result):
        self.undone.append(result)


@pytest.fixture
def run(bench):
    """Run a job of three tasks, the second of which does `body`, to its end; returns it and the tasks."""

    def runner(body, controller=lambda: None, **settings):
        tasks = []

        @bench.registry.flow("does")
        def does():
            tasks[:] = Does("first"), Does("second", body), Does("third")
            return linear_flow.Flow("does", controller()).add(*tasks)

        job = bench.poster.post("does")
        bench.start(**settings)
        return bench.final(job), tasks

    return runner


def failed_once(bench, job, tasks):
    first, second, third = tasks
    assert (job.state, job.undo, job.error_task) == ("failed", "complete", "second"), bench.told(job)
    assert (first.undone, len(second.undone), third.undone) == ([None], 1, [])
    assert [(r.task, r.how) for r in bench.poster.tasks(job.id)] == [
        ("first", "returned"),
        ("second", "raised"),
    ]


@unstorable
def test_a_result_that_cannot_be_stored_fails_its_task_once_and_is_undone(bench, run, value, told):
    job, tasks = run(lambda task: value)

    failed_once(bench, job, tasks)
    assert job.error.startswith("PayloadError: the result of second") and job.error.endswith(told)


@unstorable
def test_checkpoint_data_that_cannot_be_stored_fails_the_task_once_and_is_undone(bench, run, value, told):
    job, tasks = run(lambda task: task.checkpoint(value))

    failed_once(bench, job, tasks)
    assert "the checkpoint data of second" in job.error and job.error.endswith(told)
    assert tasks[1].saved is None


@unstorable
def test_an_error_that_carries_what_cannot_be_stored_is_a_failure_like_others(bench, run, value, told):
    def body(task):
        raise ValueError("unlucky", value)

    job, tasks = run(body)

    failed_once(bench, job, tasks)
    assert job.error.startswith("ValueError")


@unstorable
def test_a_retry_controller_that_provides_what_cannot_be_stored_fails_the_job(bench, run, value, told):
    class Provides(retry.Times):
        def execute(self, history, *args, **kwargs):
            return value

    job, _ = run(lambda task: None, lambda: Provides(2, "tries"))

    assert (job.state, job.tasks_done) == ("failed", 0), bench.told(job)


def test_what_the_revert_of_a_retry_controller_returns_is_no_reason_to_stop_the_undo(bench, run):
    class Returns(retry.Times):
        def revert(self, history, *args, **kwargs):
            return math.nan

    def body(task):
        raise ValueError("unlucky")

    job, tasks = run(body, lambda: Returns(1, "tries"))

    failed_once(bench, job, tasks)
    (kept,) = bench.sql("select revert_failure from atomdetails where name = 'tries'")
    assert "the revert of retry tries returned is nan" in str(kept[0])


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_odd_texts_come_back_as_they_were_to_tasks_to_undos_and_as_the_job_s_result(bench, run, text):
    seen = []

    def body(task):
        task.checkpoint({text: text})
        seen.append(task.saved)
        return {text: [text]}

    job, _ = run(body)

    assert job.state == "completed", bench.told(job)
    assert seen == [{text: text}]
    assert bench.poster.result(job.id)["second"] == {text: [text]}


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_an_undo_is_given_an_odd_text_as_it_was(bench, text):
    tasks = []

    @bench.registry.flow("odd")
    def odd():
        def fail(task):
            raise ValueError(text)

        tasks[:] = Does("first", lambda task: text), Does("second", fail)
        return linear_flow.Flow("odd").add(*tasks)

    job = bench.poster.post("odd")
    bench.start()

    assert bench.final(job).state == "failed"
    assert tasks[0].undone == [text]


def test_the_limit_of_results_is_an_option(bench, run):
    job, tasks = run(lambda task: "x" * 2000, max_result_bytes=2000)

    failed_once(bench, job, tasks)
    assert job.error.endswith("takes 2002 bytes of JSON, more than the 2000 allowed")


def test_the_limit_of_results_holds_for_checkpoint_data(bench, run):
    job, tasks = run(lambda task: task.checkpoint("x" * 2000), max_result_bytes=2000)

    failed_once(bench, job, tasks)
    assert "the checkpoint data of second takes 2002 bytes" in job.error


def test_the_limit_of_results_holds_for_the_job_s_result(bench, run):
    job, _ = run(lambda task: "x" * 1990, max_result_bytes=2000)

    assert (job.state, job.error_task, job.undo) == ("failed", None, "complete")
    assert job.error == "the result of the job takes 2029 bytes of JSON, more than the 2000 allowed"


def test_a_raised_limit_lets_a_larger_result_through(bench, run):
    job, _ = run(lambda task: "x" * 2**20, max_result_bytes=2**21)

    assert job.state == "completed"
    assert len(bench.poster.result(job.id)["second"]) == 2**20
