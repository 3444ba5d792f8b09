"""PartFile: the content of a download as far as it is there, and whether it may be gone on with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Final

from ebbtide.tasks.files.staging import SparingFile, remove_file

__all__ = ["SYNC_EVERY", "PartFile", "Validators", "opened_part", "remove_part"]

SYNC_EVERY: Final = 8 * 1024 * 1024
"""Bytes between two writes to the disk for good: a runner that dies has at most these to fetch again."""

_CHUNK = 256 * 1024


@dataclass(frozen=True)
class Validators:
    """What a server has said of the content that it sends.

    Attributes:
        etag: its strong entity tag, if it has one.
        modified: its ``Last-Modified``, if that is a strong one.
        total: bytes that the part is to have; None: it does not say.
        complete: bytes of the whole file, of which only a part may be wanted; None: it does not say.
    """

    etag: str | None = None
    modified: str | None = None
    total: int | None = None
    complete: int | None = None

    @property
    def if_range(self) -> str | None:
        """What makes a server send the rest only if the file is still the same; None: nothing does."""
        return self.etag or self.modified


class PartFile:
    """An open file that grows. What it knows of its content lies beside it, written before any of that.

    One thread's. Made by `opened_part`. What was on disk for good when it was last synced is still
    there after any crash, of the machine too; the rest is cut off.
    """

    def __init__(self, path: str, beside: str) -> None:
        self._beside = beside
        self.validators = Validators()
        self._synced = 0
        self.size = 0
        self._hash = hashlib.sha256()
        known = _read(beside)
        # Unbuffered: what is written is what a later run finds.
        self._file = SparingFile(path, "r+b" if os.path.lexists(path) else "w+b")
        if known is not None:
            self.validators, self._synced = known
            self._synced = min(self._synced, os.fstat(self._file.fileno()).st_size)

    def take_up(self, look: Callable[[], None]) -> None:
        """Go on with what is there; calls `look()` between pieces that it reads for the digest."""
        self._file.truncate(self._synced)
        while piece := self._file.read(min(_CHUNK, self._synced - self.size)):
            self._hash.update(piece)
            self.size += len(piece)
            look()

    def begin(self, validators: Validators) -> None:
        """Begin anew, with content of which the server says this."""
        self._file.seek(0)
        self._file.truncate()
        self.size = self._synced = 0
        self._hash = hashlib.sha256()
        self.validators = validators
        self._write_beside()

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            written = self._file.write(left)
            self._hash.update(left[:written])
            self.size += written
            left = left[written:]
        if self.size - self._synced >= SYNC_EVERY:
            self.sync()

    def end(self) -> None:
        """What is there is all that there is; the server had not said how much that would be."""
        self.validators = replace(self.validators, total=self.size)
        self._write_beside()

    def sync(self) -> None:
        """Put what is there on disk for good."""
        if self.size != self._synced:
            os.fsync(self._file.fileno())
            self._synced = self.size
            self._write_beside()

    @property
    def complete(self) -> bool:
        """Whether all is there that the server has announced."""
        return self.validators.total is not None and self.size == self.validators.total

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        self._file.close()

    def _write_beside(self) -> None:
        new = f"{self._beside}.new"
        with open(new, "w", encoding="ascii") as out:
            json.dump({**asdict(self.validators), "synced": self._synced}, out)
        os.replace(new, self._beside)


@contextlib.contextmanager
def opened_part(path: str, beside: str, look: Callable[[], None]) -> Iterator[PartFile]:
    """The partial file at `path`, taken up where it was left; `beside` is where its validators lie."""
    part = PartFile(path, beside)
    try:
        part.take_up(look)
        yield part
    finally:
        part.close()


def remove_part(path: str, beside: str) -> None:
    """Remove all that a `PartFile` has made; it may be gone already."""
    for name in (path, beside, f"{beside}.new"):
        remove_file(name)


def _read(beside: str) -> tuple[Validators, int] | None:
    """What lies there; None: nothing, or what a loss of power has left of it."""
    try:
        with open(beside, encoding="ascii") as lines:
            found = json.load(lines)
        synced = found.pop("synced")
        return Validators(**found), int(synced)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None
