"""A task that is deaf to a limit: its runner is killed, another one undoes its job, which fails (P7, P10)."""

import pytest

from ebbtide import Limits

SHORT = {"grace_seconds": 0.1, "kill_after_seconds": 0.1, "sweep_seconds": 0.05}


@pytest.mark.parametrize(
    ("step", "limits", "source", "told"),
    [
        ("b:spin", Limits(job_seconds=1.0), "deadline", "OutOfTime: the job took longer than 1 s"),
        (
            "b:spin",
            Limits(no_progress_seconds=1.0),
            "no_progress",
            "OutOfTime: the job made no progress for 1 s",
        ),
        ("b:deaf@hasty", None, "task_limit", "OutOfTime: b took longer than its limit, and did not stop"),
    ],
    ids=["deadline", "no-progress", "task-limit"],
)
def test_a_task_that_is_deaf_to_a_limit_is_killed_and_its_job_undone(stage, step, limits, source, told):
    stage.conductor(**SHORT)
    params = {"folder": str(stage.folder), "steps": ["a", step, "c"], "order": "linear"}

    job = stage.poster.post("steps", params, limits=limits)

    ended = stage.ended(job)
    with stage.explained(job):
        assert (ended.state, ended.undo, ended.error, ended.cancel.source) == (
            "failed",
            "complete",
            told,
            source,
        )
        names = [name for name in stage.names(job) if name != "cancel_delivered"]
        way = ["limit_passed", "cancel_forwarded", "overdue", "reclaimed", "failed"]
        assert names == ["posted", "claimed", *way]
        assert [effect["task"] for effect in stage.effects(job, "undone")] == ["b", "a"]
        stage.assert_history_replays(ended)


def test_a_task_that_hears_its_limit_fails_alone(stage):
    """Its job is not stopped: a retry controller would have been asked."""
    stage.conductor(grace_seconds=3600.0)  # however slow this machine is, the task stops by itself

    job = stage.post("a", "b:wait@hasty", "c")

    ended = stage.ended(job)
    with stage.explained(job):
        assert (ended.state, ended.error, ended.error_task) == (
            "failed",
            "OutOfTime: b took longer than 0.05 s",
            "b",
        )
        assert stage.names(job) == ["posted", "claimed", "failed"]
