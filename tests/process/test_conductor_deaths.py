"""A conductor dies, or the keeper of its runners. Nothing of it lives on; another one takes its jobs up.

Promises: P3 (no cancel is lost), P7, P9 (dead before the takeover), P10.
"""

import os
import signal

SHORT_LEASE = (0.3, 1.0, 2.0)


def test_with_a_killed_conductor_its_keeper_its_runners_and_what_their_tasks_started_are_gone(stage):
    conductor = stage.conductor(runners=2)
    job = stage.post("a:spawn")
    spawned = stage.await_effect(job, "spawned", "a")["pids"]
    tree = conductor.tree
    assert set(spawned) < set(tree)
    assert len(tree) == len([conductor.pid, conductor.keeper, *conductor.runners, *spawned])

    conductor.kill()

    stage.await_end_of(tree)
    assert stage.left() == []


def test_the_job_of_a_killed_conductor_is_taken_over_although_its_lease_still_runs(stage):
    """The keeper has seen every tree dead and gives the lease up in the conductor's name."""
    conductor = stage.conductor()
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")

    conductor.kill()
    stage.conductor()
    again = stage.await_effect(job, "waiting", "b", 2)
    stage.open("b")
    ended = stage.ended(job)

    assert ended.state == "completed"
    assert (again["epoch"], stage.effects(job, "begin", task="b")[1]["saved"]) == (2, {"times": 1})
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    (reclaimed,) = stage.entries(job, "reclaimed")
    assert reclaimed.detail == {"cause": "the conductor that ran it is gone"}
    assert reclaimed.actor != stage.entries(job, "claimed")[0].actor


def test_the_job_of_a_conductor_that_died_with_its_keeper_is_taken_over_once_its_lease_is_over(stage):
    conductor = stage.conductor(lease=SHORT_LEASE)
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")

    for pid in conductor.stop_tree():
        os.kill(pid, signal.SIGKILL)
    stage.conductor(lease=SHORT_LEASE)
    stage.await_effect(job, "waiting", "b", 2)
    stage.open("b")

    assert stage.ended(job).state == "completed"
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]


def test_a_cancelled_job_of_a_killed_conductor_is_undone_by_the_next_one(stage):
    conductor = stage.conductor()
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    stage.poster.cancel(job.id, reason="enough")

    conductor.kill()
    stage.conductor()
    ended = stage.ended(job)

    assert (ended.state, ended.undo, ended.cancel.reason) == ("cancelled", "complete", "enough")
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]
    assert [line["result"] for line in stage.effects(job, "undo")] == [
        "INTERRUPTED",
        {"made": "a at epoch 1"},
    ]


def test_a_cancel_while_no_conductor_lives_is_carried_out_by_the_next_one(stage):
    conductor = stage.conductor()
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")
    tree = conductor.tree

    conductor.kill()
    stage.await_end_of(tree)
    answer = stage.poster.cancel(job.id)
    stage.conductor()
    ended = stage.ended(job)

    assert (answer.answer, ended.state, ended.undo) == ("accepted", "cancelled", "complete")
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]


def test_a_failed_job_that_was_being_undone_by_a_killed_conductor_is_undone_to_its_end(stage):
    conductor = stage.conductor()
    job = stage.post("a", "b:slow-undo", "c", "d:fail", "e")
    stage.await_effect(job, "undo", "b")

    conductor.kill()
    stage.conductor()
    stage.await_effect(job, "undo", "b", 2)
    stage.open("b", verb="undo")
    ended = stage.ended(job)

    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", "d")
    assert ended.error == "ValueError: no such luck"
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin c", "begin d"]
    assert stage.told(job, "undo") == ["undo d", "undo c", "undo b", "undo b", "undo a"]


def test_with_a_killed_keeper_its_runners_die_and_the_conductor_ends_with_one_clear_line(stage):
    conductor = stage.conductor()
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")
    runners = conductor.runners

    os.kill(conductor.keeper, signal.SIGKILL)
    code = conductor.wait()
    living = stage.alive(runners)

    told = [line for line in conductor.log.splitlines() if line.startswith("ebbtide: the keeper")]
    assert (code, living, stage.left()) == (1, [], [])
    assert told == ["ebbtide: the keeper is gone, and its runners with it; start the conductor again"]
    assert "Traceback" not in conductor.log
    # Another one, or this one as its service manager starts it again, need not wait for the lease.
    stage.conductor()
    stage.await_effect(job, "waiting", "b", 2)
    stage.open("b")
    assert stage.ended(job).state == "completed"


def test_what_a_task_had_started_does_not_survive_the_kill_of_the_keeper(stage):
    conductor = stage.conductor()
    job = stage.post("a:spawn")
    stage.await_effect(job, "spawned", "a")

    os.kill(conductor.keeper, signal.SIGKILL)
    conductor.wait()
    stage.conductor()
    again = stage.await_effect(job, "begin", "a", 2)

    assert again["living"] == []


def test_a_conductor_that_is_killed_while_it_starts_leaves_nothing(stage):
    conductor = stage.conductor(wait=False)
    stage.wait_until(lambda: len(conductor.tree) > 1, "its keeper")

    conductor.kill()

    stage.wait_until(lambda: stage.left() == [], "the end of its keeper")
    assert conductor.log == ""


def test_a_conductor_that_is_told_to_end_while_it_starts_ends_in_order(stage):
    conductor = stage.conductor(wait=False)
    stage.wait_until(lambda: len(conductor.tree) > 1, "its keeper")

    assert conductor.end() == 0
    assert stage.left() == []
