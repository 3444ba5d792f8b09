"""What a unit of work is: CancelableTask and its kinds, the cancel event, ready-made tasks."""

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.event import CancelEvent, Cancelled
from ebbtide.tasks.functions import FunctionTask, task
from ebbtide.tasks.limit import OutOfTime
from ebbtide.tasks.payload import PayloadError
from ebbtide.tasks.run import INTERRUPTED, JobInfo

__all__ = [
    "INTERRUPTED",
    "CancelEvent",
    "CancelableTask",
    "Cancelled",
    "FunctionTask",
    "JobInfo",
    "OutOfTime",
    "PayloadError",
    "task",
]
