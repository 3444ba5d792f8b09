"""What the tasks of a download raise, besides what requests and folders do."""

from __future__ import annotations

from ebbtide.errors import EbbtideError
from ebbtide.tasks.files.names import shown

__all__ = ["DownloadError", "DownloadRefused"]


class DownloadError(EbbtideError):
    """Root of what these tasks raise. The job is undone; a retry is possible once the cause is gone."""


class DownloadRefused(DownloadError):
    """A file is not what the job wants it to be, or may not be put where it wants it."""

    def __init__(self, name: str, problem: str, advice: str) -> None:
        self.name, self.problem, self.advice = name, problem, advice
        super().__init__(name, problem, advice)

    def __str__(self) -> str:
        return f"file {shown(self.name)} {self.problem}: {self.advice}"
