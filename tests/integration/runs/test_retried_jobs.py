"""A job that failed or was cancelled, run once more: it completes, and its attempts are kept apart."""

from collections import Counter

import pytest

from ebbtide.errors import EdgeRefused


def _done_once(bench, job, shape):
    """The second attempt did everything, once; of the first nothing stands."""
    ended = bench.final(job)
    assert (ended.state, ended.attempt, ended.undo) == ("completed", 2, "none"), bench.told()
    assert (ended.error, ended.error_task, ended.cancel) == (None, None, None)
    assert (ended.tasks_done, ended.tasks_undone) == (len(shape.tasks), 0)
    bench.undone_in_order(shape, stays=shape.tasks)
    bench.recorded_truly(job)
    again = bench.effects[bench.effects.index("retried") + 1 :]
    assert Counter(again) == Counter(f"{word} {task}" for task in shape.tasks for word in ("begin", "end"))


def test_a_failed_job_that_is_retried_completes(bench, shape):
    job = bench.run(shape.name, {shape.fatal: ["fail"] * shape.undone[shape.fatal]})
    assert bench.final(job).state == "failed"

    bench.retry(job)

    _done_once(bench, job, shape)


def test_a_cancelled_job_that_is_retried_completes(bench, shape):
    task = shape.tasks[-1]
    job = bench.run(shape.name, {task: ["hold"]})
    bench.reached(f"execute {task}")
    bench.ended(*shape.without(task))
    bench.cancel(job)
    assert bench.final(job).state == "cancelled"

    bench.retry(job)

    _done_once(bench, job, shape)


def test_a_job_that_was_cancelled_before_its_claim_completes_when_it_is_retried(bench):
    job = bench.post("linear")
    bench.cancel(job)
    bench.retry(job)

    bench.start()

    _done_once(bench, job, bench.shapes["linear"])


def test_attempts_are_kept_apart(bench):
    job = bench.run("linear", {"c": ["hold", "fail"]})
    bench.reached("execute c")
    bench.cancel(job, "the first time")
    bench.final(job)
    first = bench.poster.tasks(job.id)
    bench.retry(job)
    bench.final(job)
    bench.retry(job)
    ended = bench.final(job)

    assert (ended.state, ended.attempt) == ("completed", 3)
    assert bench.poster.tasks(job.id, attempt=1) == first
    by_attempt = {
        number: [(record.task, record.how) for record in bench.poster.tasks(job.id, attempt=number)]
        for number in (1, 2, 3)
    }
    assert by_attempt == {
        1: [("a", "returned"), ("b", "returned"), ("c", "cancelled")],
        2: [("a", "returned"), ("b", "returned"), ("c", "raised")],
        3: [("a", "returned"), ("b", "returned"), ("c", "returned"), ("d", "returned")],
    }
    assert {record.round for record in bench.poster.tasks(job.id)} == {1}
    ends = [(e.attempt, e.name) for e in bench.poster.entries(job.id) if e.to_state is not None]
    assert ends == [
        (1, "posted"),
        (1, "claimed"),
        (1, "cancelled"),
        (2, "retried"),
        (2, "claimed"),
        (2, "failed"),
        (3, "retried"),
        (3, "claimed"),
        (3, "completed"),
    ]
    asked = [e for e in bench.poster.entries(job.id) if e.name == "cancel_requested"]
    assert [(entry.attempt, entry.detail["reason"]) for entry in asked] == [(1, "the first time")]
    outcomes = bench.sql("SELECT attempt, state, undo FROM job_outcomes WHERE job = ? ORDER BY 1", job.id)
    assert outcomes == [(1, "cancelled", "complete"), (2, "failed", "complete"), (3, "completed", "none")]


def test_taskflow_has_one_flow_detail_for_each_attempt(bench):
    job = bench.run("linear", {"c": ["fail"]})
    bench.final(job)
    bench.retry(job)
    bench.final(job)

    flows = bench.sql("SELECT uuid, state FROM flowdetails WHERE parent_uuid = ? ORDER BY created_at", job.id)
    assert [state for _, state in flows] == ["REVERTED", "SUCCESS"]
    states = [
        dict(bench.sql("SELECT name, state FROM atomdetails WHERE parent_uuid = ?", uuid))
        for uuid, _ in flows
    ]
    assert states == [
        {"a": "REVERTED", "b": "REVERTED", "c": "REVERTED", "d": "PENDING"},
        dict.fromkeys("abcd", "SUCCESS"),
    ]


def test_a_cancel_of_the_second_attempt_is_a_request_of_its_own(bench):
    job = bench.run("linear", {"b": ["hold"], "c": ["hold"]})
    shape = bench.shapes["linear"]
    bench.reached("execute b")
    bench.cancel(job, "first")
    bench.final(job)
    bench.retry(job)
    bench.reached("execute c")

    answer = bench.cancel(job, "second")

    assert (answer.answer, answer.job.cancel.reason) == ("accepted", "second")
    ended = bench.final(job)
    bench.undone_in_order(shape)
    bench.recorded_truly(job)
    assert (ended.state, ended.attempt, ended.cancel.reason) == ("cancelled", 2, "second")


@pytest.mark.parametrize("state", ["pending", "running", "completed", "parked"])
def test_a_job_that_neither_failed_nor_was_cancelled_is_not_retried(bench, state):
    plan = {"running": {"b": ["gate"]}, "parked": {"b": ["fail"], "undo a": ["fail"]}}.get(state, {})
    job = bench.post("linear", plan)
    if state != "pending":
        bench.start()
        if state == "running":
            bench.reached("execute b")
        else:
            bench.final(job)
    before = bench.poster.entries(job.id)
    assert bench.poster.show(job.id).state == state

    with pytest.raises(EdgeRefused):
        bench.poster.retry(job.id)

    assert bench.poster.entries(job.id) == before


def test_the_result_of_a_retried_job_is_that_of_its_last_attempt(bench):
    job = bench.run("diamond", {"bottom": ["fail"]})
    bench.final(job)
    bench.retry(job)
    bench.final(job)

    ends = {line[1]: line[2] for line in bench.steps.noted(str(bench.folder)) if line[0] == "end"}
    assert bench.poster.result(job.id) == {"bottom": {"token": ends["bottom"]}}
