"""Processes that tasks start: they work as elsewhere, and none outlives what started it."""


def test_a_task_may_fork_a_process_and_terminate_it(stage):
    """What a runner itself makes of SIGTERM is not handed down."""
    stage.conductor(runners=1)

    ended = stage.ended(stage.post("a:fork", "b"))

    assert (ended.state, ended.error) == ("completed", None)
