"""Each planted bug makes a short, arranged chaos break the promise that it concerns; without it none breaks.

The checker, not the test, finds the violation; what the test arranges is that the bug has its chance.

Promises: P3, P5, P7, P8, P9, P10.
"""

import contextlib
import os
import signal

import pytest

from tests.planted import planted

# Renew, self-fence and lease seconds of whoever falls silent.
SHORT_LEASE = (0.5, 3.0, 6.0)


def told(chaos, job, what, task, epoch=1):
    """Wait until a task has told something under an epoch."""
    chaos.wait_until(
        lambda: any(
            (line["job"], line["what"], line["task"], line["epoch"]) == (job, what, task, epoch)
            for line in chaos.effects()
        ),
        f"{what} {task} under epoch {epoch}",
    )


def final(chaos, job):
    chaos.wait_until(
        lambda: chaos.poster.show(job).state in ("completed", "failed", "cancelled"), f"the end of {job}"
    )


def broken(chaos):
    return {violation.promise for violation in chaos.violations()}


def a_stale_holder_goes_on(chaos, bug):
    """A whole conductor stands still beyond its lease; then its runner goes on, and nobody ends that."""
    first = chaos.conductor(runners=1, lease=SHORT_LEASE, **bug)
    client = chaos.client("client")
    job = client.post("post 1", ["a:deaf", "b", "c"])
    told(chaos, job, "begin", "a")
    (runner,) = first.runners
    chaos.recorder.nemesis("stopped all", [runner])
    parent, keeper, _ = first.stop_tree()
    second = chaos.conductor(runners=1, **bug)
    told(chaos, job, "begin", "a", epoch=2)
    chaos.open("a-1")
    os.kill(runner, signal.SIGCONT)
    told(chaos, job, "end", "a", epoch=1)
    chaos.wait_until(lambda: len(os.listdir(f"/proc/{runner}/task")) == 1, "the stale run to be over")
    chaos.open("a")
    final(chaos, job)
    assert second.end() == 0
    for pid in (keeper, parent):
        os.kill(pid, signal.SIGCONT)
    assert first.end() == 0


def a_cancel_comes_while_a_task_is_at_work(chaos, bug):
    conductor = chaos.conductor(runners=1, **bug)
    client = chaos.client("client")
    job = client.post("post 1", ["a:deaf", "b:labour"])
    told(chaos, job, "begin", "a")
    # A bug of clients, which are in this process.
    with planted(bug["test_planted"]) if bug else contextlib.nullcontext():
        assert client.cancel(job) == {"answer": "accepted"}
    chaos.open("a")
    final(chaos, job)
    client.look(job)
    assert conductor.end() == 0


def a_cancel_comes_and_no_signal_is_heard(chaos, bug):
    """Of a serial job: what the second task tells shows what became of the request by then."""
    switch = chaos.folder / "deaf"
    switch.touch()
    conductor = chaos.conductor(runners=1, test_deaf=switch, **bug)
    client = chaos.client("client")
    job = client.post("post 1", ["a:deaf", "b", "c:deaf"])
    told(chaos, job, "begin", "a")
    client.cancel(job)
    chaos.open("a")
    told(chaos, job, "end", "a")
    chaos.wait_until(
        lambda: (
            any(line["what"] in ("undo", "begin") and line["task"] != "a" for line in chaos.effects())
            or chaos.poster.show(job).state == "cancelled"
        ),
        "what comes next",
    )
    # With the bug the job would never end: the request stands in the way of its outcome, and nobody reads it.
    conductor.drain()
    conductor.kill(signal.SIGTERM)
    conductor.wait()


def an_undo_takes_its_time(chaos, bug):
    conductor = chaos.conductor(runners=1, **bug)
    client = chaos.client("client")
    job = client.post("post 1", ["a:slow-undo", "b:deaf"])
    told(chaos, job, "begin", "b")
    client.cancel(job)
    chaos.open("b")
    told(chaos, job, "undo", "a")
    client.look(job)
    chaos.open("a", verb="undo")
    told(chaos, job, "undone", "a")
    final(chaos, job)
    assert conductor.end() == 0


def a_second_conductor_starts(chaos, bug):
    first = chaos.conductor(runners=1, **bug)
    client = chaos.client("client")
    job = client.post("post 1", ["a:deaf", "b"])
    told(chaos, job, "begin", "a")
    second = chaos.conductor(runners=1, **bug)
    other = client.post("post 2", ["x"])
    # The only runner that is idle takes this, unless its conductor takes the first job for its own.
    chaos.wait_until(
        lambda: any(line["job"] == other or line["epoch"] == 2 for line in chaos.effects()), "the second one"
    )
    chaos.open("a-1")
    told(chaos, job, "end", "a")
    chaos.open("a")
    final(chaos, job)
    final(chaos, other)
    for conductor in (first, second):
        conductor.end()


CASES = [
    pytest.param("fence_off", a_stale_holder_goes_on, "P8", id="fence_off"),
    pytest.param("cancel_only_signalled", a_cancel_comes_while_a_task_is_at_work, "P3", id="only_signalled"),
    pytest.param("nobody_looks", a_cancel_comes_and_no_signal_is_heard, "P5", id="nobody_looks"),
    pytest.param("outcome_before_undo", an_undo_takes_its_time, "P7", id="outcome_before_undo"),
    pytest.param("name_as_owner_id", a_second_conductor_starts, "P9", id="name_as_owner_id"),
]


@pytest.mark.planted("it is about the bug")
@pytest.mark.parametrize(("bug", "arranged", "promise"), CASES)
def test_a_planted_bug_breaks_its_promise(chaos, disk, bug, arranged, promise):
    arranged(chaos, {"test_planted": bug})

    assert promise in broken(chaos)


@pytest.mark.parametrize(("bug", "arranged", "promise"), CASES)
def test_without_the_bug_nothing_breaks(chaos, disk, bug, arranged, promise):
    arranged(chaos, {})
    chaos.bring_to_rest()

    assert chaos.violations() == []


def test_a_job_that_nobody_runs_does_not_come_to_rest(chaos, disk):
    chaos.client("client").post("post 1", ["a"])
    chaos.bring_to_rest(quiet_seconds=0)

    assert broken(chaos) == {"P10"}
