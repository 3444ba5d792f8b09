"""What the file tasks raise: which folder or file, what is wrong with it, what to do now."""

from __future__ import annotations

import errno

from ebbtide.errors import EbbtideError
from ebbtide.tasks.files.names import shown

__all__ = [
    "ArchiveDamaged",
    "FileChanged",
    "FileTaskError",
    "FileUnusable",
    "FolderUnusable",
    "NoSpace",
    "no_space_or",
    "reason",
]


class FileTaskError(EbbtideError):
    """Root of what the file tasks raise. The job is undone; a retry is possible once the cause is gone."""


class FolderUnusable(FileTaskError):
    """The source or the destination cannot be what the job needs. Paths are text as `names` makes it."""

    def __init__(self, folder: str, problem: str, advice: str) -> None:
        self.folder, self.problem, self.advice = folder, problem, advice
        super().__init__(folder, problem, advice)

    def __str__(self) -> str:
        return f"folder {shown(self.folder)} {self.problem}: {self.advice}"


class FileUnusable(FileTaskError):
    """A file of the source cannot be read."""

    def __init__(self, path: str, problem: str, advice: str = "make it readable, or exclude it") -> None:
        self.path, self.problem, self.advice = path, problem, advice
        super().__init__(path, problem, advice)

    def __str__(self) -> str:
        return f"file {shown(self.path)} cannot be read, {self.problem}: {self.advice}"


class FileChanged(FileTaskError):
    """A file of the source is not what it was when it was scanned, or when its reading began."""

    def __init__(self, path: str, change: str) -> None:
        self.path, self.change = path, change
        super().__init__(path, change)

    def __str__(self) -> str:
        return (
            f"file {shown(self.path)} changed while the job ran, {self.change}: "
            "retry when nothing writes to it, or exclude it"
        )


class NoSpace(FileTaskError):
    """The disk of the destination, or its quota, is full."""

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(path, problem)

    def __str__(self) -> str:
        return f"cannot write {shown(self.path)}, {self.problem}: make room in the destination, then retry"


class ArchiveDamaged(FileTaskError):
    """An archive does not hold what the manifest says."""

    def __init__(self, archive: str, problem: str) -> None:
        self.archive, self.problem = archive, problem
        super().__init__(archive, problem)

    def __str__(self) -> str:
        return (
            f"archive {shown(self.archive)} does not fit its manifest, {self.problem}: "
            "retry; if it comes again, check the disk"
        )


def reason(error: OSError) -> str:
    """The system's words for an error, as part of a sentence."""
    return (error.strerror or type(error).__name__).lower()


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def no_space_or(error: OSError, path: str) -> FileTaskError:
    """What to raise for an `error` met while `path`, in the destination, was written."""
    if error.errno in _FULL:
        return NoSpace(path, reason(error))
    advice = "make it writable for the conductor's user, then retry"
    return FolderUnusable(path, f"cannot be written, {reason(error)}", advice)
