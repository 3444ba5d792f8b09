"""A job that is retried before its last run is quite over: two of its runs are here. P3, P6."""

import pytest

from ebbtide.conductor.jobrun import JobRun


@pytest.fixture
def first_lingers(bench):
    """The first run that ends has stored its outcome, and says so once the gate ``over`` is opened."""
    lingering = []

    def place(run):
        lingering.append(run)
        return "over" if len(lingering) == 1 else None

    bench.gate_before(JobRun, "end", place)


def _retried_early(bench, plan):
    """A job that was retried, with both its runs alive: the old one lingers, the new one waits."""
    job = bench.post("linear", plan)
    bench.start(runners=2)
    bench.reached("over")
    bench.poster.retry(job.id)
    bench.reached("execute c")
    return job


def test_the_end_of_the_old_run_is_not_taken_for_the_end_of_the_new_one(bench, first_lingers):
    job = _retried_early(bench, {"b": ["fail"], "c": ["gate"]})

    bench.gates.open("over")
    # Long enough for the conductor to have looked again, whatever rings: another job has come and gone.
    assert bench.final(bench.post("diamond")).state == "completed"
    bench.gates.open("execute c")

    assert bench.final(job).state == "completed"
    names = [entry.name for entry in bench.poster.entries(job.id)]
    assert names == ["posted", "claimed", "failed", "retried", "claimed", "completed"]


def test_a_cancel_of_the_new_attempt_reaches_the_new_run(bench, first_lingers):
    job = _retried_early(bench, {"b": ["fail"], "c": ["hold"]})

    bench.cancel(job)

    ended = bench.final(job)
    assert (ended.state, ended.attempt, ended.undo) == ("cancelled", 2, "complete")
    bench.gates.open("over")
