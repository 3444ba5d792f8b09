"""What becomes of a job whose task fails, or that takes too long: tried again, held, out of time."""

import threading

import pytest

from ebbtide import Limits, RetryPolicy
from ebbtide.conductor.journal import Journal
from ebbtide.jobs.limits import LimitWatch

AT_ONCE = RetryPolicy(attempts=3, interval_seconds=0, errors=("Broken",))


@pytest.fixture
def post(bench):
    """Post a job with policies."""

    def post(flow, plan, **policies):
        params = {"folder": str(bench.folder), "plan": plan}
        return bench.poster.post(flow, params, **policies)

    return post


def edges(bench, job):
    return [entry.name for entry in bench.poster.entries(job.id)]


# -- attempts by themselves


def test_a_job_that_failed_is_undone_and_tried_again_by_itself(bench, post):
    job = post("linear", {"c": ["fail", "fail"]}, retry=AT_ONCE)
    bench.start()

    ended = bench.final(job)

    again = ["retry_scheduled", "claimed"]
    assert edges(bench, job) == ["posted", "claimed", *again, *again, "completed"]
    assert (ended.state, ended.attempt, ended.retries, ended.undo) == ("completed", 3, 2, "none")
    bench.undone_in_order(bench.shapes["linear"], stays="abcd")
    bench.recorded_truly(job)
    entry = bench.poster.entries(job.id)[2]
    assert entry.detail == {
        "undone": ["c", "b", "a"],
        "error": "Broken: c broke",
        "task": "c",
        "pause_seconds": 0.0,
    }


def test_with_its_last_attempt_it_ends_failed_and_a_retry_by_hand_begins_anew(bench, post):
    job = post("linear", {"b": ["fail"] * 4}, retry=RetryPolicy(attempts=2, interval_seconds=0))
    bench.start()

    assert (bench.final(job).state, bench.poster.show(job.id).attempt) == ("failed", 2)
    bench.poster.retry(job.id)
    ended = bench.final(job)

    assert (ended.state, ended.attempt, ended.retries) == ("failed", 4, 1)
    bench.undone_in_order(bench.shapes["linear"])


def test_another_error_than_the_named_ones_is_not_tried_again(bench, post):
    job = post("linear", {"b": ["object"]}, retry=AT_ONCE)
    bench.start()

    ended = bench.final(job)

    assert (ended.state, ended.attempt) == ("failed", 1)


def test_a_cancel_in_the_pause_before_an_attempt_wins(bench, post):
    """P3: nothing of the next attempt begins."""
    job = post("linear", {"b": ["fail"]}, retry=RetryPolicy(attempts=2, interval_seconds=3600))
    bench.start()
    bench.until("it is to be tried again", lambda: "retry_scheduled" in edges(bench, job))
    waiting = bench.poster.show(job.id)
    assert (waiting.phase, waiting.attempt) == ("scheduled", 2)

    bench.cancel(job)

    ended = bench.final(job)
    assert (ended.state, ended.undo) == ("cancelled", "none")
    bench.undone_in_order(bench.shapes["linear"])


def test_a_cancel_while_a_failure_is_undone_leaves_no_other_attempt(bench, post):
    job = post("linear", {"c": ["fail"], "undo b": ["gate"]}, retry=AT_ONCE)
    bench.start()
    bench.reached("undo b")

    bench.cancel(job)
    bench.gates.open("undo b")

    assert bench.final(job).state == "cancelled"
    assert "retry_scheduled" not in edges(bench, job)


# -- holding


@pytest.mark.parametrize("flow", ["linear", "diamond"])
def test_a_job_that_holds_goes_on_at_what_failed(bench, post, flow):
    shape = bench.shapes[flow]
    task = shape.tasks[-1]
    job = post(flow, {task: ["fail"]}, on_failure="hold")
    bench.start(shape.workers)

    held = bench.final(job)
    assert (held.state, held.held, held.error_task) == ("parked", True, task)
    assert held.park_reason == f"{task} failed, and the job holds: Broken: {task} broke"
    assert bench.words("undo") == []
    bench.poster.retry(job.id, from_failure=True)
    ended = bench.final(job)

    assert (ended.state, ended.attempt, ended.held) == ("completed", 1, False)
    assert bench.words("undo") == []
    assert [bench.words("begin").count(each) for each in shape.tasks] == [1] * (len(shape.tasks) - 1) + [2]
    assert edges(bench, job) == ["posted", "claimed", "parked", "unparked", "claimed", "completed"]
    assert [(t.task, t.round) for t in bench.poster.tasks(job.id) if t.task == task] == [(task, 1)]


def test_it_holds_again_where_it_fails_again_and_is_undone_by_a_cancel(bench, post):
    """P7: what began twice in its round is undone once, and all in reverse order."""
    job = post("linear", {"c": ["fail", "fail"]}, on_failure="hold")
    bench.start()
    bench.final(job)
    bench.poster.retry(job.id, from_failure=True)
    bench.until("it holds again", lambda: edges(bench, job).count("parked") == 2)

    bench.cancel(job)

    ended = bench.final(job)
    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert bench.words("undo") == ["c", "b", "a"]


def test_a_sibling_ends_and_nothing_else_begins_before_it_holds(bench, post):
    job = post("unordered", {"b": ["break"], "c": ["gate"]}, on_failure="hold")
    bench.start(bench.shapes["unordered"].workers)
    bench.reached("execute b", "execute c")

    bench.gates.open("execute b")
    bench.gates.open("execute c")

    assert bench.final(job).held
    assert "c" in bench.words("end")
    assert bench.words("undo") == []


def test_only_the_last_failure_holds(bench, post):
    retry = RetryPolicy(attempts=2, interval_seconds=0)
    job = post("linear", {"b": ["fail", "fail"]}, on_failure="hold", retry=retry)
    bench.start()

    held = bench.final(job)

    assert (held.state, held.held, held.attempt) == ("parked", True, 2)
    assert bench.words("undo") == ["b", "a"]


def test_a_cancel_that_comes_before_it_holds_undoes_it(bench, post):
    job = post("unordered", {"b": ["break"], "c": ["hold"]}, on_failure="hold")
    bench.start(bench.shapes["unordered"].workers)
    bench.reached("execute b", "execute c")
    bench.gates.open("execute b")
    bench.until("b failed", lambda: any(t.how == "raised" for t in bench.poster.tasks(job.id)))

    bench.cancel(job)

    assert bench.final(job).state == "cancelled"
    bench.undone_in_order(bench.shapes["unordered"])


# -- limits


def _limits_held_back(bench):
    """Until what is returned is set nobody looks whether a limit was passed."""
    looks, record = threading.Event(), LimitWatch.record
    bench.monkeypatch.setattr(LimitWatch, "record", lambda self: record(self) if looks.is_set() else [])
    return looks


def test_a_job_out_of_time_is_stopped_undone_and_failed(bench, post):
    looks = _limits_held_back(bench)
    job = post("linear", {"c": ["hold"]}, limits=Limits(job_seconds=0.05))
    bench.start(sweep_seconds=0.02)
    bench.reached("execute c")

    looks.set()

    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.error) == (
        "failed",
        "complete",
        "OutOfTime: the job took longer than 0.05 s",
    )
    assert (ended.cancel.source, ended.cancel.reverted_at is not None) == ("deadline", True)
    assert [name for name in edges(bench, job) if not name.startswith("cancel_")] == [
        "posted",
        "claimed",
        "limit_passed",
        "failed",
    ]
    bench.undone_in_order(bench.shapes["linear"])
    bench.recorded_truly(job)


def test_a_job_without_progress_is_stopped_undone_and_failed(bench, post):
    job = post("linear", {"b": ["hold"]}, limits=Limits(no_progress_seconds=0.2))
    bench.start(sweep_seconds=0.02)

    ended = bench.final(job)

    assert (ended.state, ended.cancel.source) == ("failed", "no_progress")
    assert ended.error == "OutOfTime: the job made no progress for 0.2 s"
    bench.undone_in_order(bench.shapes["linear"])


@pytest.mark.parametrize(("errors", "attempts"), [((), 1), (("OutOfTime",), 2)])
def test_a_job_out_of_time_is_tried_again_only_where_that_is_named(bench, post, errors, attempts):
    retry = RetryPolicy(attempts=2, interval_seconds=0, errors=errors)
    plan = {"b": ["hold", "hold"]}
    job = post("linear", plan, limits=Limits(job_seconds=0.05), retry=retry)
    bench.start(sweep_seconds=0.02)

    ended = bench.final(job)

    assert (ended.state, ended.attempt) == ("failed", attempts)
    assert edges(bench, job).count("limit_passed") == attempts
    bench.undone_in_order(bench.shapes["linear"])


@pytest.mark.parametrize("moment", ["undo a", "finish"])
def test_a_cancel_that_comes_after_a_limit_ends_it_cancelled_and_it_is_not_tried_again(bench, post, moment):
    """P3: whoever cancels is not told that somebody has, while the job is about to begin anew."""
    retry = RetryPolicy(attempts=2, interval_seconds=0, errors=("OutOfTime",))
    plan = {"c": ["hold"], "undo a": ["gate" if moment == "undo a" else "pass"]}
    if moment == "finish":
        first = iter(["finish"])
        bench.gate_before(Journal, "finish", lambda self, outcome: next(first, None))
    looks = _limits_held_back(bench)
    job = post("linear", plan, limits=Limits(job_seconds=0.05), retry=retry)
    bench.start(sweep_seconds=0.02)
    bench.reached("execute c")
    looks.set()
    bench.reached(moment)

    answer = bench.cancel(job, "no more of it").answer
    bench.gates.open(moment)

    ended = bench.final(job)
    assert (answer, ended.state, ended.attempt, ended.undo) == ("accepted", "cancelled", 1, "complete")
    assert (ended.cancel.source, ended.cancel.reason) == ("user", "no more of it")
    told = [name for name in edges(bench, job) if name not in ("cancel_forwarded", "cancel_delivered")]
    assert told == ["posted", "claimed", "limit_passed", "cancel_requested", "cancelled"]
    bench.undone_in_order(bench.shapes["linear"])
    bench.recorded_truly(job)
