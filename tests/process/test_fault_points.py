"""A runner, a conductor or a keeper dies at a fault point. The job ends as it would have ended anyway.

Promises: P2, P3, P6, P7, P10, P13.
"""

import pytest

from ebbtide.faults import POINTS

SHORT_LEASE = (0.3, 1.0, 2.0)
# Where a runner can die, and how often it comes there with a job of three tasks that completes, or that is
# cancelled in its third task. That one saves something first, which is one commit more.
COMPLETED = {
    "task.beginning": 3,
    "task.begun": 3,
    "task.ended": 3,
    "journal.committing": 4,
    "journal.committed": 4,
    "outcome.committing": 1,
    "outcome.committed": 1,
}
CANCELLED = COMPLETED | {
    "task.saving": 1,
    "task.saved": 1,
    "undo.beginning": 3,
    "undo.begun": 3,
    "undo.ended": 3,
    "journal.committing": 8,
    "journal.committed": 8,
}
# Where a conductor dies while it claims a job, and its keeper while it gives up a dead conductor's lease; and
# whether the job is cancelled before the next conductor comes.
IN_THE_CLAIM = {
    "store.committing": [False],
    "store.committed": [True],
    "conductor.claimed": [False, True],
}
IN_THE_RELEASE = {"keeper.releasing": [False, True], "keeper.released": [True]}


def kills(points):
    return [f"{name}:kill:{number}" for name, times in points.items() for number in range(1, times + 1)]


def cases(points):
    return [(point, cancel) for point, cancels in points.items() for cancel in cancels]


def test_somebody_dies_here_at_every_point_there_is():
    assert {*CANCELLED, *IN_THE_CLAIM, *IN_THE_RELEASE} == POINTS.keys()


@pytest.mark.timeout(180)
def test_a_job_completes_wherever_its_runner_is_killed(stage):
    conductor = stage.conductor(runners=1, faults=kills(COMPLETED))
    for fault in kills(COMPLETED):
        print(fault)
        stage.arm(fault)

        job = stage.ended(stage.post("a", "b", "c"))

        with stage.explained(job):
            assert (job.state, job.tasks_done) == ("completed", 3)
            assert last_words(stage, job) == {"a": "end", "b": "end", "c": "end"}
            assert stage.poster.result(job.id) == results(stage, job)
            assert stage.effects(job, "undo") == []
            killed_once(stage, conductor, job, fault, COMPLETED)


@pytest.mark.timeout(180)
def test_a_cancelled_job_is_undone_wherever_its_runner_is_killed(stage):
    conductor = stage.conductor(runners=1, faults=kills(CANCELLED))
    for fault in kills(CANCELLED):
        print(fault)
        stage.arm(fault)
        job = stage.post("a", "b", "c:wait")
        stage.await_effect(job, "waiting", "c")

        stage.poster.cancel(job.id)
        begun = stage.told(job, "begin")
        job = stage.ended(job)

        with stage.explained(job):
            assert (job.state, job.undo, job.tasks_undone) == ("cancelled", "complete", 3)
            assert stage.told(job, "begin") == begun
            # P7: each undone, for the last time after whatever came after it, and given the truth.
            assert list(last_words(stage, job).items()) == [("c", "undone"), ("b", "undone"), ("a", "undone")]
            given = {line["task"]: line["result"] for line in stage.effects(job, "undo")}
            assert given == results(stage, job) | {"c": "INTERRUPTED"}
            killed_once(stage, conductor, job, fault, CANCELLED)


@pytest.mark.parametrize("point, cancel", cases(IN_THE_CLAIM))
def test_a_job_whose_conductor_dies_in_the_claim_is_claimed_by_the_next_one(stage, point, cancel):
    conductor = stage.conductor(faults=[f"{point}:kill"])
    stage.arm(f"{point}:kill")

    job = stage.post("a", "b", "c")
    conductor.wait()
    if cancel:
        stage.poster.cancel(job.id)
    stage.conductor()
    ended = stage.ended(job)

    with stage.explained(ended):
        assert stage.happened(f"{point}:kill")
        assert ended.state == ("cancelled" if cancel else "completed")
        assert stage.told(job, "begin") == ([] if cancel else ["begin a", "begin b", "begin c"])
        claims = [name for name in stage.names(job) if name in ("claimed", "reclaimed")]
        assert claims == (["claimed"] if point == "store.committing" else ["claimed", "reclaimed"])
        stage.assert_history_replays(ended)


@pytest.mark.parametrize("point, cancel", cases(IN_THE_RELEASE))
def test_a_job_whose_keeper_dies_in_the_release_is_taken_over(stage, point, cancel):
    conductor = stage.conductor(lease=SHORT_LEASE, faults=[f"{point}:kill"])
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")
    tree = conductor.tree
    if cancel:
        conductor.stop()  # it hears nothing of it
        stage.poster.cancel(job.id)

    stage.arm(f"{point}:kill")
    conductor.kill()
    stage.await_end_of(tree)
    assert stage.happened(f"{point}:kill")
    stage.open("b")
    stage.conductor(lease=SHORT_LEASE)
    ended = stage.ended(job)

    with stage.explained(ended):
        assert ended.state == ("cancelled" if cancel else "completed")
        words = last_words(stage, job)
        assert set(words.values()) == ({"undone"} if cancel else {"end"})
        assert list(words) == (["b", "a"] if cancel else ["a", "b", "c"])
        in_order_of_epochs(stage, ended)


def last_words(stage, job):
    """The last that each task has told, in the order in which they told it."""
    words = {}
    for line in stage.effects(job):
        words.pop(line["task"], None)
        words[line["task"]] = line["what"]
    return words


def results(stage, job):
    """What each task returned the last time that it did."""
    ends = {line["task"]: line["epoch"] for line in stage.effects(job, "end")}
    return {task: {"made": f"{task} at epoch {epoch}"} for task, epoch in ends.items()}


def killed_once(stage, conductor, job, fault, points):
    """The runner of this job was killed there, and whatever comes from that has come."""
    assert stage.happened(fault)
    stage.wait_until(lambda: f"job.interrupted {job.id}" in conductor.log, "the kill to be heard of")
    # Dead with all stored, or the job was taken up again and has ended.
    after_the_end = fault in (
        f"journal.committed:kill:{points['journal.committed']}",
        "outcome.committed:kill:1",
    )
    causes = [entry.detail["cause"] for entry in stage.entries(job, "reclaimed")]
    assert causes == ([] if after_the_end else ["its runner was ended by SIGKILL"])
    if not after_the_end:
        stage.wait_until(lambda: f"job.{job.state} {job.id}" in conductor.log, "the end to be heard of")
    in_order_of_epochs(stage, job)
    assert len(stage.effects(job, "begin")) <= 4 and len(stage.effects(job, "undo")) <= 4


def in_order_of_epochs(stage, job):
    """P6: a body begins once in an epoch, and nothing of an epoch is seen after the next one has begun."""
    stage.assert_history_replays(job)
    bodies = [(line["what"], line["task"], line["epoch"]) for line in stage.effects(job, "begin", "undo")]
    assert len(set(bodies)) == len(bodies)
    epochs = [line["epoch"] for line in stage.effects(job)]
    assert epochs == sorted(epochs)
