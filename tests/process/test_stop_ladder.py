"""A cancelled task does not stop. It is overdue, told to end, killed with all that it started, and undone.

Promises: P3 (an accepted cancel is never lost), P5, P6, P7 (what began is undone), P10 (the job ends), P13.
"""

import signal

import pytest

SHORT = {"grace_seconds": 0.1, "kill_after_seconds": 0.1}
# Where a test waits for what the ladder is not to do, nothing may depend on how slow the machine is.
NEVER = 3600.0
CAUSE = "it did not stop within 0.1 s of the cancel and was ended"
LADDER = ["cancel_requested", "cancel_forwarded", "overdue", "reclaimed", "cancelled"]


def _cancelled_by_force(stage, job, *, overdue=("b",)):
    """Wait for the end of a job that the ladder has ended, and check what is told of it."""
    ended = stage.ended(job)
    with stage.explained(job):
        assert (ended.state, ended.phase, ended.undo) == ("cancelled", "cancelled", "complete")
        assert [name for name in stage.names(job) if name in LADDER] == LADDER
        assert stage.entries(job, "overdue")[0].detail == {"tasks": list(overdue), "grace_seconds": 0.1}
        (reclaimed,) = stage.entries(job, "reclaimed")
        assert reclaimed.detail["cause"] == CAUSE
        assert reclaimed.detail.keys() == {"cause", "ended_in_seconds"}
        stage.assert_history_replays(ended)
    return ended


def _overdue(stage, job):
    stage.wait_until(lambda: stage.poster.show(job.id).phase == "overdue", "the job to be overdue")


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("spin", "waiting"),
        ("sleep", "waiting"),
        ("hold", "holding"),
        ("match", "waiting"),
        ("swallow", "waiting"),
        ("stubborn", "waiting"),
        ("spawn", "waiting"),
        ("twin", "waiting"),
    ],
)
def test_a_task_that_does_not_stop_is_killed_and_undone_and_its_neighbour_goes_on(stage, action, said):
    conductor = stage.conductor(runners=2, **SHORT)
    neighbour = stage.post("n1", "n2:wait", "n3")
    stage.await_effect(neighbour, "waiting", "n2")
    job = stage.post("a", f"b:{action}", "c")
    if said == "holding":
        stage.open("b")
    runner = stage.await_effect(job, said, "b")["pid"]

    stage.poster.cancel(job.id, reason="enough")
    _cancelled_by_force(stage, job)
    stage.open("n2")

    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]
    undo_b, undo_a = stage.effects(job, "undo")
    assert (undo_b["result"], undo_a["result"]) == ("INTERRUPTED", {"made": "a at epoch 1"})
    # Dead before the undo began, with everything below it, whatever session that was in.
    assert (stage.alive([runner]), undo_b["living"]) == ([], [])
    assert stage.ended(neighbour).state == "completed"
    assert stage.told(neighbour, "begin") == ["begin n1", "begin n2", "begin n3"]
    assert len({line["pid"] for line in stage.effects(neighbour)}) == 1
    assert "conductor.ended" not in conductor.log


def test_the_undo_after_the_kill_is_given_the_result_of_a_parallel_sibling(stage):
    stage.conductor(runners=1, **SHORT)
    job = stage.post("quick", "b:hold", order="unordered")
    stage.wait_until(
        lambda: "returned" in [record.how for record in stage.poster.tasks(job.id)], "the result to be stored"
    )
    stage.open("b")
    stage.await_effect(job, "holding", "b")

    stage.poster.cancel(job.id)
    _cancelled_by_force(stage, job)

    results = {line["task"]: line["result"] for line in stage.effects(job, "undo")}
    assert results == {"quick": {"made": "quick at epoch 1"}, "b": "INTERRUPTED"}
    assert sorted(stage.told(job, "begin")) == ["begin b", "begin quick"]


def test_a_runner_that_cannot_be_reached_is_ended_all_the_same(stage):
    stage.conductor(runners=1, **SHORT)
    job = stage.post("a", "b:mute", "c")
    stage.await_effect(job, "waiting", "b")

    stage.poster.cancel(job.id)
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert stage.entries(job, "reclaimed")[0].detail["cause"] == CAUSE
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]


def test_programs_are_told_to_end_first_and_then_nothing_has_to_be_killed(stage):
    conductor = stage.conductor(runners=1, grace_seconds=0.1, kill_after_seconds=NEVER)
    (before,) = conductor.runners
    job = stage.post("a:slow-undo", "b:polite", "c")
    stage.await_effect(job, "waiting", "b")

    stage.poster.cancel(job.id)
    stage.await_effect(job, "undo", "a")
    stage.wait_until(lambda: stage.poster.show(job.id).phase == "cancelling", "it to be overdue no longer")
    stage.open("a", verb="undo")
    ended = stage.ended(job)

    assert (stage.folder / "farewell").exists()
    assert (ended.state, ended.undo) == ("cancelled", "complete")
    told = [name for name in stage.names(job) if name in LADDER]
    assert told == ["cancel_requested", "cancel_forwarded", "overdue", "cancelled"]
    assert stage.effects(job, "undo", task="b")[0]["result"] == {"made": "b at epoch 1"}
    # That runner has had a SIGTERM, which may not meet the programs of another job.
    stage.await_end_of([before])
    assert stage.ended(stage.post("x", "y")).state == "completed"
    assert conductor.end() == 0


def test_while_a_job_is_overdue_its_phase_says_so(stage):
    stage.conductor(runners=1, grace_seconds=0.1, kill_after_seconds=NEVER)
    job = stage.post("b:deaf")
    stage.await_effect(job, "waiting", "b")

    stage.poster.cancel(job.id)
    _overdue(stage, job)

    assert [shown.id for shown in stage.poster.list(state="overdue")] == [job.id]
    assert stage.poster.list(state="cancelling") == []
    assert stage.poster.show(job.id).current == ["b"]
    stage.open("b")
    assert stage.ended(job).phase == "cancelled"


def test_a_task_with_a_longer_grace_is_waited_for(stage):
    stage.conductor(runners=2, **SHORT)
    patient = stage.post("a", "b:deaf@patient", "c")
    stage.await_effect(patient, "waiting", "b")
    stage.poster.cancel(patient.id)
    stage.wait_until(lambda: "cancel_forwarded" in stage.names(patient), "the cancel to be forwarded")

    # One that was cancelled later is through with it.
    job = stage.post("b:spin")
    stage.await_effect(job, "waiting", "b")
    stage.poster.cancel(job.id)
    _cancelled_by_force(stage, job)

    assert "overdue" not in stage.names(patient)
    stage.open("b")
    ended = stage.ended(patient)
    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert not {"overdue", "reclaimed"} & set(stage.names(patient))
    assert stage.told(patient, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]


def test_of_parallel_tasks_the_largest_grace_counts_for_as_long_as_its_task_runs(stage):
    conductor = stage.conductor(runners=2, **SHORT)
    job = stage.post("p:deaf@patient", "b:deaf", order="unordered")
    for task in ("p", "b"):
        stage.await_effect(job, "waiting", task)
    stage.poster.cancel(job.id)
    stage.wait_until(lambda: "cancel_forwarded" in stage.names(job), "the cancel to be forwarded")
    other = stage.post("b:spin")
    stage.await_effect(other, "waiting", "b")
    stage.poster.cancel(other.id)
    _cancelled_by_force(stage, other)
    assert "overdue" not in stage.names(job)

    stage.open("p")
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert stage.entries(job, "reclaimed")[0].detail["cause"] == CAUSE
    assert len(conductor.runners) == 2


@pytest.mark.parametrize("when", ["before the cancel", "after the kill"])
def test_an_undo_is_never_ended(stage, when):
    stage.conductor(runners=2, grace_seconds=0, kill_after_seconds=0)
    if when == "before the cancel":
        job = stage.post("a:slow-undo", "b:fail")
        stage.await_effect(job, "undo", "a")
        stage.poster.cancel(job.id)
    else:
        job = stage.post("a:slow-undo", "b:spin")
        stage.await_effect(job, "waiting", "b")
        stage.poster.cancel(job.id)
        stage.await_effect(job, "undo", "a")
    seen = stage.names(job)

    # One that is cancelled now is through with it before this undo ends.
    other = stage.post("b:spin")
    stage.await_effect(other, "waiting", "b")
    stage.poster.cancel(other.id)
    assert stage.ended(other).state == "cancelled"
    stage.open("a", verb="undo")
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert {record.task: record.undo_tries for record in stage.poster.tasks(job.id)} == {"a": 1, "b": 1}
    later = stage.names(job)[len(seen) :]
    assert [name for name in later if name != "cancel_forwarded"] == ["cancelled"]


def test_what_the_ladder_ends_does_not_count_towards_parking(stage):
    """P11 is for what dies by itself."""
    stage.conductor(runners=1, **SHORT)
    job = stage.post("a", "b:exit-twice")
    stage.await_effect(job, "waiting", "b")
    assert len(stage.entries(job, "reclaimed")) == 2

    stage.poster.cancel(job.id)
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    causes = [entry.detail["cause"] for entry in stage.entries(job, "reclaimed")]
    assert causes == ["its runner exited with status 7"] * 2 + [CAUSE]


@pytest.mark.sqlite_only("a server has no lock that is on all of it")
def test_the_ladder_goes_on_while_the_store_is_away_and_the_history_has_it_later(stage, ask):
    conductor = stage.conductor(runners=1, **SHORT)
    job = stage.post("p:deaf@patient", "b:deaf", order="unordered")
    for task in ("p", "b"):
        stage.await_effect(job, "waiting", task)
    runners = conductor.runners
    stage.poster.cancel(job.id)
    stage.wait_until(lambda: "cancel_forwarded" in stage.names(job), "the cancel to be forwarded")

    ask("BEGIN IMMEDIATE")
    stage.open("p")
    stage.await_end_of(runners)
    names = stage.names(job)
    ask("ROLLBACK")

    assert not {"overdue", "reclaimed"} & set(names)
    # The end of p could not be stored either, so both were at work as far as anybody knows.
    _cancelled_by_force(stage, job, overdue=[record.task for record in stage.poster.tasks(job.id)])


def test_a_drain_that_waits_for_a_deaf_task_is_over_once_that_is_cancelled(stage):
    first = stage.conductor(runners=1, **SHORT)
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    first.drain()

    stage.poster.cancel(job.id)
    assert first.wait() == 0
    stage.conductor(**SHORT)
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert "overdue" in stage.names(job)
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]


def test_a_retry_controller_that_does_not_answer_is_ended_as_well(stage):
    assert _undone_although_it_holds_the_engine_up(stage, "deaf-retry") == ["undo b", "undo a"]


def test_a_decider_that_does_not_answer_is_ended_as_well(stage):
    assert _undone_although_it_holds_the_engine_up(stage, "deaf-decider") == ["undo a"]


def _undone_although_it_holds_the_engine_up(stage, flow):
    """What is undone of a job that is cancelled while its flow is asked something and does not answer."""
    stage.conductor(runners=1, **SHORT)
    job = stage.poster.post(flow, {"folder": str(stage.folder)})
    stage.wait_until((stage.folder / "asked").exists, "it to be asked")

    stage.poster.cancel(job.id)
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert stage.entries(job, "reclaimed")[0].detail["cause"] == CAUSE
    return stage.told(job, "undo")


def test_a_conductor_that_dies_with_an_overdue_job_leaves_it_to_be_undone(stage):
    first = stage.conductor(runners=1, grace_seconds=0.1, kill_after_seconds=NEVER)
    job = stage.post("a", "b:exit-twice")
    stage.await_effect(job, "waiting", "b")
    stage.poster.cancel(job.id)
    _overdue(stage, job)

    first.kill(signal.SIGKILL)
    stage.conductor()
    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert stage.told(job, "undo") == ["undo b", "undo a"]


def test_a_job_that_is_retried_after_the_kill_completes(stage):
    stage.conductor(runners=1, **SHORT)
    job = stage.post("a", "b:spin*1", "c")
    stage.await_effect(job, "waiting", "b")
    stage.poster.cancel(job.id)
    _cancelled_by_force(stage, job)

    stage.poster.retry(job.id)
    ended = stage.ended(job)

    assert (ended.state, ended.attempt) == ("completed", 2)
