"""Following: the events of one job until it rests, over as many streams as that takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.states import FINAL_STATES, JobState

__all__ = ["STREAM_SECONDS", "Following"]

# How often chunks are asked for.
STREAM_SECONDS = 0.25

# How long a broken stream is not opened again.
_AGAIN_SECONDS = 0.5


class Following:
    """Where somebody is who follows a job, and how long he still may.

    Args:
        timeout: seconds; None: for ever.
    """

    def __init__(self, job_id: str, timeout: float | None) -> None:
        self._job_id = job_id
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._seen = 0
        self._begun = False

    @property
    def query(self) -> dict[str, Any]:
        """Of the stream that goes on where the last one broke."""
        return {"after": self._seen, "until_rest": True}

    def left(self) -> float | None:
        """How many seconds are left; None: any number. Raises TimeoutError when none are."""
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError(f"job {self._job_id} does not rest after {self._timeout} seconds")
        return left

    def note(self, event: str, value: Mapping[str, Any]) -> bool:
        """What a stream has told. Returns whether it is the last that there will be."""
        self._begun = True
        if event == "entry":
            self._seen = int(value["number"])
        return event == "deleted" or (event == "job" and _rests(value))

    def pause(self, error: StoreUnavailable | None = None) -> float:
        """How many seconds nothing is asked for now that a stream has ended, or could not be had.

        Once one has begun, a server that is away is waited for. Before that the error is raised.
        """
        if error is not None and not self._begun:
            raise error
        left = self.left()
        return _AGAIN_SECONDS if left is None else min(left, _AGAIN_SECONDS)


def _rests(job: Mapping[str, Any]) -> bool:
    return JobState(job["state"]) in FINAL_STATES or job["state"] == JobState.PARKED
