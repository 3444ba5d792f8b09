"""What a unit of work is: CancelableTask and its kinds, the cancel event, ready-made tasks."""

from ebbtide.tasks.asynctask import AsyncTask
from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.command import CommandFailed, CommandTask, OutputExists
from ebbtide.tasks.event import CancelEvent, Cancelled
from ebbtide.tasks.functions import FunctionTask, task
from ebbtide.tasks.limit import OutOfTime
from ebbtide.tasks.payload import PayloadError
from ebbtide.tasks.run import INTERRUPTED, JobInfo
from ebbtide.tasks.streamtask import StreamTask

__all__ = [
    "INTERRUPTED",
    "AsyncTask",
    "CancelEvent",
    "CancelableTask",
    "Cancelled",
    "CommandFailed",
    "CommandTask",
    "FunctionTask",
    "JobInfo",
    "OutOfTime",
    "OutputExists",
    "PayloadError",
    "StreamTask",
    "task",
]
