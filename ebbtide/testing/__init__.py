"""For tests of your own: run one task without any service, cancel or kill it on cue, undo it, and wait.

Names are loaded when they are first asked for: pytest loads the plug-in of this package in every session.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebbtide.testing.clock import FakeClock, WaitsForEver
    from ebbtide.testing.cued import CueMissed
    from ebbtide.testing.cues import (
        Cue,
        Moment,
        Place,
        at_begin,
        at_checkpoint,
        at_data,
        at_message,
        at_return,
    )
    from ebbtide.testing.taskrun import TaskRun, run_task
    from ebbtide.testing.waiting import WaitedInVain, history, wait_until

__all__ = [  # noqa: RUF022  (grouped by what they are for, not by the alphabet)
    # run one task
    "run_task",
    "TaskRun",
    # cancel it, or kill its runner, on cue
    "at_begin",
    "at_checkpoint",
    "at_data",
    "at_message",
    "at_return",
    "Cue",
    "Moment",
    "Place",
    "CueMissed",
    # time
    "FakeClock",
    "WaitsForEver",
    # wait for a job
    "wait_until",
    "history",
    "WaitedInVain",
]

_HOMES = {
    "FakeClock": "ebbtide.testing.clock",
    "WaitsForEver": "ebbtide.testing.clock",
    "CueMissed": "ebbtide.testing.cued",
    "Cue": "ebbtide.testing.cues",
    "Moment": "ebbtide.testing.cues",
    "Place": "ebbtide.testing.cues",
    "at_begin": "ebbtide.testing.cues",
    "at_checkpoint": "ebbtide.testing.cues",
    "at_data": "ebbtide.testing.cues",
    "at_message": "ebbtide.testing.cues",
    "at_return": "ebbtide.testing.cues",
    "TaskRun": "ebbtide.testing.taskrun",
    "run_task": "ebbtide.testing.taskrun",
    "WaitedInVain": "ebbtide.testing.waiting",
    "history": "ebbtide.testing.waiting",
    "wait_until": "ebbtide.testing.waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ebbtide.testing' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
