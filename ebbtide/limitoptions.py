"""The options for how long what is cancelled, and what is undone, may take."""

from typing import Any

from oslo_config import cfg

from ebbtide.optionkinds import seconds


def limit_options(defaults: Any) -> tuple[cfg.Opt, ...]:
    """The options, in the order of the sample file; `defaults` has an attribute for each."""
    return (
        seconds(
            "grace_seconds",
            defaults.grace_seconds,
            0,
            86400,
            "How long the tasks of a cancelled job may take to come to a checkpoint. After that the job "
            "is overdue and its runner is told to end. Raise it for tasks whose steps take longer; a task "
            "class may have a grace_seconds of its own.",
        ),
        seconds(
            "kill_after_seconds",
            defaults.kill_after_seconds,
            0,
            86400,
            "How long what an overdue job has started may take to end after SIGTERM; then its runner is "
            "killed with everything below it, and another one undoes the job. Raise it for programs that "
            "need longer to leave their work in order.",
        ),
        cfg.IntOpt(
            "revert_retries",
            default=defaults.revert_retries,
            min=0,
            max=1000,
            help="How often an undo that fails is tried again; then its job is parked, for a person. Raise "
            "it where what undos talk to is away for a while now and then; a task class may say otherwise.",
        ),
        seconds(
            "revert_retry_seconds",
            defaults.revert_retry_seconds,
            0,
            3600,
            "How long after its first failure an undo is tried again; each further pause is twice as long, "
            "up to a minute. Raise it where what has failed needs longer to come back.",
        ),
        seconds(
            "revert_timeout_seconds",
            defaults.revert_timeout_seconds,
            0.1,
            30 * 86400,
            "How long one try of an undo may take. After that what it waits for is told to end, and after "
            "kill_after_seconds its runner is ended; it counts as a failure. Raise it for undos that take "
            "longer; a task class may say otherwise.",
        ),
    )
