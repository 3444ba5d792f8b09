"""Cancelable jobs on OpenStack TaskFlow: post, run, cancel, undo, retry.

The names below are what a user types on day one; everything else lives in its own module, such as
`ebbtide.config` or `ebbtide.jobs.schema`. Each name is loaded when it is first asked for, so that
`import ebbtide` costs nothing and a program that only posts jobs never loads the conductor.
"""

# As in `typing`, which the command would have to load before it can guard itself against Ctrl-C.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ebbtide.conductor import Conductor, Service
    from ebbtide.errors import Conflict, EbbtideError, NotFound, StoreUnavailable, UsageError
    from ebbtide.flows import Limits, RetryPolicy, flow
    from ebbtide.jobs import AsyncPoster, Job, JobState, Poster
    from ebbtide.tasks import INTERRUPTED, AsyncTask, CancelableTask, Cancelled, CommandTask, StreamTask, task
    from ebbtide.tasks.manager import TaskManager

    __version__: str

__all__ = [  # noqa: RUF022  (grouped by what they are for, not by the alphabet)
    # write a task with its undo, and a flow of tasks
    "CancelableTask",
    "AsyncTask",
    "CommandTask",
    "StreamTask",
    "Cancelled",
    "INTERRUPTED",
    "task",
    "flow",
    # what becomes of a job whose task fails, or that takes too long
    "RetryPolicy",
    "Limits",
    # post, cancel, retry and look at jobs
    "Poster",
    "Job",
    "JobState",
    # run them
    "Conductor",
    # both, inside an asyncio program
    "AsyncPoster",
    "Service",
    # plain coroutines that need no durability
    "TaskManager",
    # what may go wrong, by what the caller can do about it
    "EbbtideError",
    "UsageError",
    "NotFound",
    "Conflict",
    "StoreUnavailable",
    "__version__",
]

_HOMES = {
    "CancelableTask": "ebbtide.tasks",
    "AsyncTask": "ebbtide.tasks",
    "CommandTask": "ebbtide.tasks",
    "StreamTask": "ebbtide.tasks",
    "Cancelled": "ebbtide.tasks",
    "INTERRUPTED": "ebbtide.tasks",
    "task": "ebbtide.tasks",
    "flow": "ebbtide.flows",
    "RetryPolicy": "ebbtide.flows",
    "Limits": "ebbtide.flows",
    "Poster": "ebbtide.jobs",
    "Job": "ebbtide.jobs",
    "JobState": "ebbtide.jobs",
    "Conductor": "ebbtide.conductor",
    "AsyncPoster": "ebbtide.jobs",
    "Service": "ebbtide.conductor",
    "TaskManager": "ebbtide.tasks.manager",
    "EbbtideError": "ebbtide.errors",
    "UsageError": "ebbtide.errors",
    "NotFound": "ebbtide.errors",
    "Conflict": "ebbtide.errors",
    "StoreUnavailable": "ebbtide.errors",
}


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ebbtide")
    except PackageNotFoundError:
        return "0+checkout"  # a bare checkout on the path, which nobody has installed


# Hidden from type checkers, which would take every misspelt name for one that is found here.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "__version__":
            value = _installed_version()
        elif name in _HOMES:
            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'ebbtide' has no attribute {name!r}")
        globals()[name] = value  # the next access does not come here
        return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
