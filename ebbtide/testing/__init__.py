"""For tests of your own: run one task without any service, cancel or kill it on cue, undo it, and wait."""

from ebbtide.testing.clock import FakeClock, WaitsForEver
from ebbtide.testing.cued import CueMissed
from ebbtide.testing.cues import Cue, Moment, Place, at_begin, at_checkpoint, at_data, at_message, at_return
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
