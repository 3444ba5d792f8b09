"""A task in a thread of the conductor's own process that does not stop: nothing can end it, which is told."""

import pytest


@pytest.fixture
def overdue(bench):
    """Cancel a job and wait until it is overdue."""

    def overdue(job):
        bench.cancel(job)
        bench.until("the job is overdue", lambda: bench.poster.show(job.id).phase == "overdue")

    return overdue


def test_a_deaf_task_stays_overdue_until_it_returns_and_is_undone_then(bench, overdue):
    shape = bench.shapes["linear"]
    job = bench.post("linear", {"b": ["gate"]})
    bench.start(shape.workers, grace_seconds=0.02, kill_after_seconds=0)
    bench.reached("execute b")

    overdue(job)
    # A sweep, and whatever else might be due, comes to nothing.
    other = bench.post("linear", {})
    bench.cancel(other)
    assert bench.final(other).state == "cancelled"
    assert bench.poster.show(job.id).phase == "overdue"
    (entry,) = [entry for entry in bench.poster.entries(job.id) if entry.name == "overdue"]
    assert entry.detail == {"tasks": ["b"], "grace_seconds": 0.02}

    bench.gates.open("execute b")
    bench.cancelled_and_undone(job, shape)
    assert "reclaimed" not in [entry.name for entry in bench.poster.entries(job.id)]


def test_once_it_has_returned_it_is_overdue_no_longer_although_its_undo_takes_long(bench, overdue):
    shape = bench.shapes["linear"]
    job = bench.post("linear", {"b": ["gate"], "undo b": ["gate"]})
    bench.start(shape.workers, grace_seconds=0.02)
    bench.reached("execute b")
    overdue(job)

    bench.gates.open("execute b")
    bench.reached("undo b")
    bench.until("it is cancelling", lambda: bench.poster.show(job.id).phase == "cancelling")

    bench.gates.open("undo b")
    bench.cancelled_and_undone(job, shape)


def test_a_task_that_comes_to_its_checkpoint_in_time_is_never_overdue(bench):
    shape = bench.shapes["linear"]
    job = bench.post("linear", {"b": ["hold"], "undo b": ["gate"]})
    bench.start(shape.workers, grace_seconds=3600)
    bench.reached("execute b")
    bench.cancel(job)
    bench.reached("undo b")

    bench.gates.open("undo b")

    bench.cancelled_and_undone(job, shape)
    assert "overdue" not in [entry.name for entry in bench.poster.entries(job.id)]


def test_a_cancel_that_finds_only_undos_is_never_overdue(bench):
    shape = bench.shapes["linear"]
    job = bench.post("linear", {"d": ["fail"], "undo b": ["gate"]})
    bench.start(shape.workers, grace_seconds=0)
    bench.reached("undo b")

    bench.cancel(job)
    bench.forwarded(job)
    bench.gates.open("undo b")

    bench.cancelled_and_undone(job, shape)
    assert "overdue" not in [entry.name for entry in bench.poster.entries(job.id)]


def test_what_waits_for_a_worker_when_the_cancel_comes_runs_no_code_of_its_own(bench, monkeypatch):
    """Not even a hook of TaskFlow's that comes before the barrier: nothing would end it any more."""
    called = []
    monkeypatch.setattr(bench.steps.Step, "pre_execute", lambda step: called.append(step.name))
    shape = bench.shapes["unordered"]
    job = bench.run("unordered", {task: ["hold"] for task in shape.tasks})
    bench.until("two tasks run", lambda: len(bench.words("begin")) == 2)

    bench.cancel(job)

    bench.cancelled_and_undone(job, shape)
    assert sorted(called) == sorted(bench.words("begin"))
