"""How far a loop over files is."""

from __future__ import annotations

from ebbtide.tasks.base import CancelableTask

__all__ = ["Meter"]


class Meter:
    """Counts the bytes and files of one task's loop. Each step is a checkpoint and a report.

    Args:
        task: whose checkpoint and progress these are.
        files: how many entries there are in all; size: how many bytes of content.
    """

    def __init__(self, task: CancelableTask, files: int, size: int) -> None:
        self._task = task
        self._all_files = files
        self._all_bytes = size
        self._files = 0
        self._bytes = 0
        self._total = f"{files:,} files, {{:.1f}} of {size / 1e6:,.1f} MB"

    def step(self, size: int = 0, files: int = 0) -> None:
        """`size` more bytes and `files` more files are done. Raises `Cancelled` when that was requested."""
        self._bytes += size
        self._files += files
        self._task.checkpoint()
        if self._all_bytes:
            fraction = self._bytes / self._all_bytes
        else:
            fraction = self._files / self._all_files if self._all_files else 1.0
        self._task.report(fraction, f"{self._files:,} of {self._total.format(self._bytes / 1e6)}")
