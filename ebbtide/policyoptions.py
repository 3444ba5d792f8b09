"""The options of what is decided beforehand: retries, time limits, and for how long ended jobs are kept."""

from oslo_config import cfg

from ebbtide.optionkinds import seconds

__all__ = ["POLICY_OPTIONS", "SCHEDULER_VARIABLES"]

# What schedulers set for the work that they start; our own variable of an option wins over it.
SCHEDULER_VARIABLES = {
    "SCHEDULER_TASK_TIMEOUT": "job_timeout",
    "SCHEDULER_MAX_RETRIES": "max_retries",
    "SCHEDULER_RETRY_INTERVAL": "retry_interval",
}

_YEAR_SECONDS = 365 * 86400
_DAYS = 36500


def _kept_days(state: str, sentence: str) -> cfg.Opt:
    return cfg.FloatOpt(f"keep_{state}_days", default=0.0, min=0, max=_DAYS, help=sentence)


POLICY_OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.IntOpt(
        "max_retries",
        default=0,
        min=0,
        max=999,
        help="How many times a job that failed is tried again by itself, once its work is undone. Read when "
        "it is posted; a flow or a job with a retry policy of its own has that. Raise it where what fails "
        "often comes right by itself. Also SCHEDULER_MAX_RETRIES.",
    ),
    seconds(
        "retry_interval",
        60.0,
        0,
        _YEAR_SECONDS,
        "How many seconds a job waits before its first retry; each later pause is twice as long, up to an "
        "hour. Raise it where what a job needs takes long to come back. Also SCHEDULER_RETRY_INTERVAL.",
    ),
    seconds(
        "job_timeout",
        0.0,
        0,
        _YEAR_SECONDS,
        "How many seconds each attempt of a job may take while it is claimed; what is out of time is undone "
        "and ends failed. 0 sets no limit. Read when a job is posted; a flow or a job with limits of its own "
        "has those. Set it where a job that hangs may not keep a runner. Also SCHEDULER_TASK_TIMEOUT.",
    ),
    _kept_days(
        "completed",
        "For how many days a conductor keeps a completed job, with its history and result. 0 keeps it for "
        "ever. Set it where so many jobs run that the store grows without need.",
    ),
    _kept_days(
        "failed",
        "For how many days a conductor keeps a failed job. 0 keeps it for ever. Set it to longer than it "
        "takes to look into a failure.",
    ),
    _kept_days(
        "cancelled",
        "For how many days a conductor keeps a cancelled job. 0 keeps it for ever. Set it to longer than "
        "anybody asks who cancelled what.",
    ),
)
