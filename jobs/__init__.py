"""What a job is: its states, the ledger, and the client that posts and cancels."""

from ebbtide.jobs.asyncposter import AsyncPoster
from ebbtide.jobs.poster import Poster
from ebbtide.jobs.records import CancelAnswer, CancelRequest, Chunk, Entry, Job, LogLine, TaskRecord
from ebbtide.jobs.states import FINAL_STATES, JobState

__all__ = [
    "FINAL_STATES",
    "AsyncPoster",
    "CancelAnswer",
    "CancelRequest",
    "Chunk",
    "Entry",
    "Job",
    "JobState",
    "LogLine",
    "Poster",
    "TaskRecord",
]
