"""What a job is: its states, the ledger, and the client that posts and cancels."""

from ebbtide.jobs.conductors import ConductorRecord, HeldJob
from ebbtide.jobs.many import Answer
from ebbtide.jobs.poster import Poster
from ebbtide.jobs.records import CancelAnswer, CancelRequest, Entry, Job, JobAnswer, LogLine, TaskRecord
from ebbtide.jobs.selection import Selection
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.statistics import FlowStatistics, Statistics

__all__ = [
    "FINAL_STATES",
    "Answer",
    "CancelAnswer",
    "CancelRequest",
    "ConductorRecord",
    "Entry",
    "FlowStatistics",
    "HeldJob",
    "Job",
    "JobAnswer",
    "JobState",
    "LogLine",
    "Poster",
    "Selection",
    "Statistics",
    "TaskRecord",
]
