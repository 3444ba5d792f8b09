"""A runner dies: killed from outside, or by its own task. Its job goes on, and others notice nothing.

Promises: P6 (begins once in an epoch), P7 (what began is undone), P10 (it ends), P11 (three deaths park).
"""

import os
import re
import signal

import pytest

LIMIT = 1024  # MiB for a runner: what a task here asks for is far beyond, what the rest takes far below


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_job_whose_runner_is_killed_goes_on_with_the_task_that_was_interrupted(stage):
    conductor = stage.conductor(runners=1)
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")
    (runner,) = conductor.runners

    _kill(runner)
    stage.await_effect(job, "waiting", "b", 2)
    stage.open("b")
    ended = stage.ended(job)

    assert (ended.state, ended.attempt) == ("completed", 1)
    assert stage.told(job, "begin", "end") == [
        "begin a",
        "end a",
        "begin b",
        "begin b",
        "end b",
        "begin c",
        "end c",
    ]
    first, second = stage.effects(job, "begin", task="b")
    assert (first["epoch"], first["interrupted"], first["saved"]) == (1, False, None)
    assert (second["epoch"], second["interrupted"], second["saved"]) == (2, True, {"times": 1})
    (reclaimed,) = stage.entries(job, "reclaimed")
    (claimed,) = stage.entries(job, "claimed")
    assert reclaimed.detail == {"cause": "its runner was ended by SIGKILL"}
    assert (reclaimed.epoch, reclaimed.actor) == (claimed.epoch + 1, claimed.actor)


def test_a_cancelled_job_whose_runner_is_killed_is_undone_without_another_execute(stage):
    conductor = stage.conductor(runners=1)
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")

    stage.poster.cancel(job.id, reason="enough")
    stage.wait_until(lambda: "cancel_forwarded" in stage.names(job), "the cancel to be forwarded")
    _kill(conductor.runners[0])
    ended = stage.ended(job)

    assert (ended.state, ended.undo, ended.cancel.reason) == ("cancelled", "complete", "enough")
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]
    undo_b, undo_a = stage.effects(job, "undo")
    assert undo_b["result"] == "INTERRUPTED"
    assert undo_a["result"] == {"made": "a at epoch 1"}


def test_a_cancel_that_comes_between_the_death_and_the_next_claim_is_heeded_by_that_claim(stage):
    conductor = stage.conductor(runners=1)
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")
    (runner,) = conductor.runners

    conductor.stop()
    _kill(runner)
    stage.await_end_of([runner])
    stage.poster.cancel(job.id)
    conductor.kill(signal.SIGCONT)
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]
    undo_b = stage.effects(job, "undo", task="b")[0]
    assert (undo_b["result"], undo_b["saved"]) == ("INTERRUPTED", {"times": 1})


def test_a_job_whose_runner_is_killed_while_it_is_undone_goes_on_undoing(stage):
    conductor = stage.conductor(runners=1)
    job = stage.post("a", "b:slow-undo", "c:wait")
    stage.await_effect(job, "waiting", "c")
    stage.poster.cancel(job.id)
    stage.await_effect(job, "undo", "b")

    _kill(conductor.runners[0])
    stage.await_effect(job, "undo", "b", 2)
    stage.open("b", verb="undo")
    ended = stage.ended(job)

    assert (ended.state, ended.undo, ended.tasks_undone) == ("cancelled", "complete", 3)
    assert stage.told(job, "undo") == ["undo c", "undo b", "undo b", "undo a"]
    assert [line["result"] for line in stage.effects(job, "undo", task="b")] == [{"made": "b at epoch 1"}] * 2
    assert len(stage.effects(job, "begin")) == 3
    tries = {record.task: record.undo_tries for record in stage.poster.tasks(job.id)}
    assert tries == {"a": 1, "b": 2, "c": 1}


def test_the_result_of_a_parallel_task_survives_the_kill_of_its_runner(stage):
    conductor = stage.conductor(runners=1)
    job = stage.post("quick", "long:wait", order="unordered")
    stage.await_effect(job, "waiting", "long")
    stage.wait_until(
        lambda: "returned" in [record.how for record in stage.poster.tasks(job.id)], "the result to be stored"
    )

    _kill(conductor.runners[0])
    stage.await_effect(job, "waiting", "long", 2)
    stage.poster.cancel(job.id)
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert len(stage.effects(job, "begin", task="quick")) == 1
    results = {line["task"]: line["result"] for line in stage.effects(job, "undo")}
    assert results == {"quick": {"made": "quick at epoch 1"}, "long": "INTERRUPTED"}
    assert len(stage.effects(job, "undo")) == 2


def test_what_a_killed_runners_task_had_started_is_gone_before_the_task_begins_again(stage):
    conductor = stage.conductor(runners=1)
    job = stage.post("a:spawn")
    spawned = stage.await_effect(job, "spawned", "a")["pids"]
    assert stage.alive(spawned) == spawned

    _kill(conductor.runners[0])
    again = stage.await_effect(job, "begin", "a", 2)

    assert again["living"] == []
    assert stage.alive(spawned) == []


# How a task may take its runner along, and what is told of it. The last one has asked for too much memory.
DEATHS = [
    ("exit", "its runner exited with status 7"),
    ("segfault", "its runner was ended by SIGSEGV"),
    ("kill", "its runner was ended by SIGKILL"),
    ("burst", "its runner was ended by SIGABRT"),
]


@pytest.mark.parametrize(("action", "cause"), DEATHS)
def test_a_job_whose_task_takes_its_runner_along_goes_on_and_tells_the_task(stage, action, cause):
    stage.conductor(runners=1, memory_limit_mib=LIMIT)

    job = stage.post("a", f"b:{action}*1", "c")
    ended = stage.ended(job)

    assert (ended.state, ended.attempt) == ("completed", 1)
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    assert [line["interrupted"] for line in stage.effects(job, "begin", task="b")] == [False, True]
    assert [entry.detail for entry in stage.entries(job, "reclaimed")] == [{"cause": cause}]


@pytest.mark.parametrize(("action", "cause"), DEATHS)
def test_a_cancelled_job_whose_task_takes_its_runner_along_goes_backwards(stage, action, cause):
    stage.conductor(runners=1, memory_limit_mib=LIMIT)
    job = stage.post("a", f"b:cancel-{action}", "c")
    stage.await_effect(job, "waiting", "b")

    stage.poster.cancel(job.id)
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]
    assert stage.effects(job, "undo", task="b")[0]["result"] == "INTERRUPTED"
    assert {record.task: record.how for record in stage.poster.tasks(job.id)}["b"] == "interrupted"
    assert [entry.detail for entry in stage.entries(job, "reclaimed")] == [{"cause": cause}]


@pytest.mark.parametrize(("action", "cause"), DEATHS)
def test_a_job_that_kills_its_runner_three_times_is_parked_and_its_neighbour_goes_on(stage, action, cause):
    stage.conductor(runners=2, memory_limit_mib=LIMIT)
    neighbour = stage.post("n1", "n2:wait", "n3")
    stage.await_effect(neighbour, "waiting", "n2")

    job = stage.post("a", f"b:{action}", "c")
    parked = stage.ended(job)
    stage.open("n2")

    assert (parked.state, parked.attempt) == ("parked", 1)
    assert parked.park_reason == f"interrupted 3 times without progress in b; last: {cause}"
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin b"]
    assert [entry.detail for entry in stage.entries(job, "reclaimed")] == [{"cause": cause}] * 2
    assert stage.entries(job, "parked")[0].detail["task"] == "b"
    assert stage.ended(neighbour).state == "completed"
    assert stage.told(neighbour, "begin") == ["begin n1", "begin n2", "begin n3"]


def test_deaths_with_progress_between_them_park_nothing(stage):
    stage.conductor(runners=1)

    job = stage.post("a:exit*2", "b:exit*2", "c:exit*2")
    ended = stage.ended(job)

    assert ended.state == "completed"
    assert len(stage.entries(job, "reclaimed")) == 6
    assert stage.told(job, "end") == ["end a", "end b", "end c"]


def test_sys_exit_in_a_task_fails_its_job_and_leaves_the_runner_alive(stage):
    conductor = stage.conductor(runners=1)
    before = conductor.runners

    job = stage.post("a", "b:sysexit", "c")
    ended = stage.ended(job)

    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", "b")
    assert ended.error == "SystemExit: 7"
    assert stage.told(job, "undo") == ["undo b", "undo a"]
    assert conductor.runners == before


def test_a_task_that_asks_for_too_much_memory_fails_as_any_other_and_is_undone(stage):
    conductor = stage.conductor(runners=2, memory_limit_mib=LIMIT)
    before = conductor.runners
    neighbour = stage.post("n1", "n2:wait", "n3")
    stage.await_effect(neighbour, "waiting", "n2")

    job = stage.post("a", "b:gorge", "c")
    ended = stage.ended(job)
    stage.open("n2")

    assert (ended.state, ended.undo, ended.error_task, ended.error) == (
        "failed",
        "complete",
        "b",
        "MemoryError",
    )
    assert stage.told(job, "undo") == ["undo b", "undo a"]
    assert stage.ended(neighbour).state == "completed"
    assert conductor.runners == before


def test_without_a_limit_the_same_task_has_what_it_wants(stage):
    stage.conductor(runners=1)

    assert stage.ended(stage.post("a:crave")).state == "completed"


def test_a_limit_that_leaves_no_room_for_a_runner_is_refused_in_a_line(stage):
    conductor = stage.conductor(runners=1, memory_limit_mib=2, wait=False)

    assert conductor.wait() == 2
    (line,) = conductor.log.splitlines()
    assert re.fullmatch(
        r"ebbtide: memory_limit_mib \(2\) is too little: runners need \d+ before a task has any", line
    )


def test_a_runner_in_which_a_thread_goes_on_is_replaced_and_its_job_has_ended(stage):
    conductor = stage.conductor(runners=1)
    (before,) = conductor.runners

    job = stage.ended(stage.post("a", "b:linger"))
    stage.await_end_of([before])
    other = stage.ended(stage.post("a"))

    assert (job.state, other.state) == ("completed", "completed")
    assert stage.names(job) == stage.names(other) == ["posted", "claimed", "completed"]
    assert before not in conductor.runners
