"""A conductor is told to end: it claims no more, lets running tasks end, and hands the rest to others.

Promises: P3, P6, P7, P10; and stopping a conductor cancels nothing and uses up no attempt.
"""

import os
import signal

import pytest


def _drain_in_the_middle_of_b(stage, conductor):
    """Post a, b, c, tell the conductor to end while b runs, and let b end then. Returns the job."""
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    conductor.drain()
    stage.open("b")
    return job


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_drained_conductor_lets_the_running_task_end_and_releases_the_job_behind_it(stage, isolation):
    conductor = stage.conductor(isolation=isolation)

    job = _drain_in_the_middle_of_b(stage, conductor)
    code = conductor.wait()

    released = stage.poster.show(job.id)
    assert (code, stage.left()) == (0, [])
    assert (released.state, released.attempt, released.owner) == ("pending", 1, None)
    assert stage.told(job, "begin", "end") == ["begin a", "end a", "begin b", "end b"]
    assert stage.names(job) == ["posted", "claimed", "released"]
    assert conductor.log.count(f"job.suspending {job.id}") == 1
    (entry,) = stage.entries(job, "released")
    assert (entry.from_state, entry.to_state, entry.attempt, entry.epoch) == ("running", "pending", 1, 1)


def test_a_released_job_goes_on_elsewhere_where_it_was(stage):
    first = stage.conductor()
    job = _drain_in_the_middle_of_b(stage, first)
    first.wait()

    stage.conductor()
    ended = stage.ended(job)

    assert (ended.state, ended.attempt) == ("completed", 1)
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin c"]
    assert stage.names(job) == ["posted", "claimed", "released", "claimed", "completed"]
    assert [line["epoch"] for line in stage.effects(job, "begin")] == [1, 1, 2]
    assert stage.poster.result(job.id)["a"] == {"made": "a at epoch 1"}


def test_a_released_job_that_is_cancelled_is_undone_elsewhere(stage):
    first = stage.conductor()
    job = _drain_in_the_middle_of_b(stage, first)
    first.wait()

    answer = stage.poster.cancel(job.id)
    waiting = stage.poster.show(job.id)
    stage.conductor()
    ended = stage.ended(job)

    assert (answer.answer, waiting.state, waiting.phase) == ("accepted", "pending", "cancelling")
    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]
    assert [line["result"] for line in stage.effects(job, "undo")] == [
        {"made": "b at epoch 1"},
        {"made": "a at epoch 1"},
    ]


def test_a_job_that_is_cancelled_while_its_conductor_drains_is_undone_by_whoever_has_it(stage):
    first = stage.conductor()
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")

    first.drain()
    stage.poster.cancel(job.id)
    stage.open("b")
    code = first.wait()
    stage.conductor()
    ended = stage.ended(job)

    assert (code, ended.state, ended.undo) == (0, "cancelled", "complete")
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]


def test_a_failed_job_that_is_being_undone_is_undone_to_its_end_elsewhere(stage):
    first = stage.conductor()
    job = stage.post("a", "b:slow-undo", "c:fail")
    stage.await_effect(job, "undo", "b")

    first.drain()
    stage.open("b", verb="undo")
    code = first.wait()
    stage.conductor()
    ended = stage.ended(job)

    assert (code, ended.state, ended.undo, ended.error_task) == (0, "failed", "complete", "c")
    assert stage.told(job, "undo") == ["undo c", "undo b", "undo a"]


def test_a_draining_conductor_claims_nothing_more(stage):
    conductor = stage.conductor(runners=2)
    running = stage.post("a:deaf")
    stage.await_effect(running, "waiting", "a")

    conductor.drain()
    late = stage.post("b")
    stage.open("a")
    conductor.wait()

    assert stage.names(late) == ["posted"]
    # What it did itself came to its end: nothing was left of it to be released.
    assert stage.poster.show(running.id).state in ("completed", "pending")


def test_a_job_that_was_only_just_claimed_is_released_as_well(stage):
    """Nothing of it may have begun: an engine that is suspended before it runs must not run to its end."""
    conductor = stage.conductor(runners=1)
    (runner,) = conductor.runners
    os.kill(runner, signal.SIGSTOP)
    steps = [f"a{number}" for number in range(10)]
    job = stage.post(*steps, "b:deaf")
    stage.wait_until(lambda: "claimed" in stage.names(job), "the claim")

    conductor.kill(signal.SIGTERM)
    stage.wait_until(lambda: "conductor.draining" in conductor.log, "the drain")  # its runner cannot hear
    os.kill(runner, signal.SIGCONT)
    code = conductor.wait()
    released = stage.poster.show(job.id)
    stage.open("b")
    stage.conductor()
    ended = stage.ended(job)

    assert (code, released.state, released.attempt) == (0, "pending", 1)
    assert (ended.state, stage.told(job, "begin")) == (
        "completed",
        [f"begin {name}" for name in [*steps, "b"]],
    )


def test_tasks_that_still_wait_for_a_thread_do_not_begin_and_are_left_to_the_next_conductor(stage):
    first = stage.conductor(task_threads=1)
    job = stage.post("x:deaf", "y:deaf", "z:deaf", order="unordered")
    stage.wait_until(lambda: stage.told(job, "waiting"), "one of them to run")

    first.drain()
    stage.open("x", "y", "z")
    code = first.wait()
    released, begun = stage.poster.show(job.id), stage.told(job, "begin")
    stage.conductor()
    ended = stage.ended(job)

    assert (code, released.state, released.phase, len(begun)) == (0, "pending", "pending", 1)
    assert (ended.state, ended.error) == ("completed", None)
    assert sorted(stage.told(job, "begin", "undo")) == ["begin x", "begin y", "begin z"]


def test_undos_that_still_wait_for_a_thread_are_left_to_the_next_conductor(stage):
    first = stage.conductor(task_threads=1)
    names = ["w", "x", "y", "z"]
    job = stage.post(*[f"{name}:wait+slow-undo" for name in names], order="unordered")
    for count in (1, 2, 3):
        stage.wait_until(lambda count=count: len(stage.effects(job, "waiting")) == count, "the next to run")
        if count < 3:
            stage.open(stage.effects(job, "waiting")[-1]["task"])
    stage.poster.cancel(job.id)
    stage.wait_until(lambda: stage.told(job, "undo"), "the first undo")

    first.drain()
    stage.open(*names, verb="undo")
    code = first.wait()
    stage.conductor(task_threads=1)  # with more, two undos at once may tell in any order
    ended = stage.ended(job)

    assert (code, ended.state, ended.undo, ended.park_reason) == (0, "cancelled", "complete", None)
    begun = [line["task"] for line in stage.effects(job, "begin")]
    assert [line["task"] for line in stage.effects(job, "undo")] == begun[::-1]


def test_a_second_signal_ends_a_deaf_task_and_the_job_is_taken_up_by_the_next_conductor(stage):
    conductor = stage.conductor()
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    tree = conductor.tree

    conductor.drain()
    conductor.kill(signal.SIGTERM)
    code = conductor.wait()

    assert (code, stage.alive(tree)) == (0, [])
    assert "conductor.hurried" in conductor.log
    assert stage.poster.show(job.id).state == "running"

    stage.conductor()
    stage.await_effect(job, "waiting", "b", 2)
    stage.open("b")
    assert stage.ended(job).state == "completed"
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    assert stage.effects(job, "begin", task="b")[1]["interrupted"] is True


@pytest.fixture
def terminal():
    """The two ends of a terminal: the keyboard's and the program's."""
    keyboard, program = os.openpty()
    yield keyboard, program
    os.close(keyboard)
    os.close(program)


def test_ctrl_c_at_the_terminal_drains_and_the_runners_do_not_see_it(stage, terminal):
    keyboard, program = terminal
    conductor = stage.conductor(terminal=program)
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    runners = conductor.runners

    os.write(keyboard, b"\x03")
    conductor.await_drain()
    assert stage.alive(runners) == runners
    stage.open("b")
    code = conductor.wait()

    assert "conductor.draining: the tasks of 1 job may end first; a second signal hurries\n" in conductor.log
    assert (code, stage.left()) == (0, [])
    assert stage.poster.show(job.id).state == "pending"
    assert stage.told(job, "begin", "end") == ["begin a", "end a", "begin b", "end b"]
    assert "Traceback" not in conductor.log and "KeyboardInterrupt" not in conductor.log


def test_an_idle_conductor_ends_at_once_and_leaves_nothing(stage):
    conductor = stage.conductor()
    tree = conductor.tree
    assert len(tree) == len(["conductor", "keeper", "runner", "runner"])

    assert conductor.end() == 0
    assert (stage.alive(tree), stage.left()) == ([], [])


def test_a_signal_to_every_process_of_a_service_drains_it(stage):
    """systemd sends it so unless its unit says otherwise."""
    conductor = stage.conductor()
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    tree = conductor.tree

    for pid in tree:
        os.kill(pid, signal.SIGTERM)
    conductor.await_drain()
    assert stage.alive(tree) == tree
    stage.open("b")
    code = conductor.wait()

    assert (code, stage.left()) == (0, [])
    assert stage.told(job, "begin", "end") == ["begin a", "end a", "begin b", "end b"]
    assert stage.names(job) == ["posted", "claimed", "released"]
