"""Where a download keeps what it has not put in its place yet."""

from __future__ import annotations

import os

__all__ = ["Downloads", "kept_name"]


class Downloads:
    """The names in the staging folder of a download. Looks at no disk.

    The folder lies in the destination, since what is in it will be renamed, and is named for the job:
    after a crash the same job finds it again, and no other job touches it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.destination = os.path.dirname(folder)

    @classmethod
    def of(cls, destination: str, job_id: str) -> Downloads:
        return cls(os.path.join(destination, f".download-{job_id}"))

    def part(self, number: int) -> str:
        """The content of one file as far as it is there; files count from 1."""
        return os.path.join(self.folder, f"{number}.part")

    def validators(self, number: int) -> str:
        """What says whether that content may be gone on with."""
        return os.path.join(self.folder, f"{number}.json")


def kept_name(name: str, job_id: str) -> str:
    """The name beside it that a file gets which a job has replaced."""
    return f".{name}.before-{job_id}"
