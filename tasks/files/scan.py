"""Finding what there is to do, and dividing it."""

from __future__ import annotations

import fnmatch
import heapq
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.files.entries import Entry, Kind, write_listing
from ebbtide.tasks.files.errors import FileChanged, FileUnusable, FolderUnusable, reason
from ebbtide.tasks.files.names import from_bytes, shown, to_bytes, to_json
from ebbtide.tasks.files.staging import Staging, durable, remove_file

__all__ = ["ScanFolder", "balance"]

LOG = logging.getLogger(__name__)

_ENTRY_COST = 16 * 1024  # reading a file costs about as much time as this many bytes of it
_LOGGED_SKIPS = 20

_OTHER_KINDS = (
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
)


class ScanFolder(CancelableTask):
    """List a folder and divide it into parts of about the same size.

    execute: walks the folder without following links and writes one listing for each part into the
    staging folder. FIFOs, sockets and devices are skipped and listed apart. Provides ``listing``:
    counts of files, folders, links, bytes, skipped and excluded, and the entries and bytes of each
    part. A file or folder that may not be read, and a folder with nothing in it, are errors.

    undo: removes the listings.

    Args:
        parts: into how many parts to divide, at least 1. All folders are in the last one, so that
            unpacking the parts in order sets their modes and times when their files are there.

    Args of execute:
        source: folder to list.
        exclude: shell patterns (``*``, ``?``, ``[...]``; ``*`` also matches "/"). What matches by its
            name or by its path below the source is left out, a folder with all that is in it.
        staging: folder of this job, existing.
    """

    default_provides = "listing"

    def __init__(self, parts: int = 4, **options: Any) -> None:
        super().__init__(**options)
        self.parts = parts

    def execute(self, source: Path, exclude: Sequence[str], staging: str) -> dict[str, Any]:
        root = os.path.realpath(source)
        walk = _Walk(os.fsencode(root), exclude)
        entries = []
        for entry in walk:
            self.checkpoint()
            entries.append(entry)
            self.report(0.0, f"{len(entries):,} found")
        if not entries:
            reasons = f"{walk.excluded:,} excluded, {len(walk.skipped):,} skipped"
            problem, advice = f"is empty ({reasons})", "there is nothing to archive"
            raise FolderUnusable(from_bytes(os.fsencode(root)), problem, advice)
        divided = balance(entries, self.parts)
        files = Staging(staging)
        for part, content in enumerate(divided, start=1):
            self.checkpoint()
            with durable(files.listing(part)) as out:
                write_listing(out, content)
        with durable(files.skipped) as out:
            for name, kind in walk.skipped:
                out.write(json.dumps({**to_json("path", name), "kind": kind}).encode("ascii") + b"\n")
        _log_skipped(walk.skipped)
        kinds = [entry.kind for entry in entries]
        return {
            "files": kinds.count(Kind.FILE),
            "folders": kinds.count(Kind.FOLDER),
            "links": kinds.count(Kind.LINK),
            "bytes": sum(entry.size for entry in entries),
            "skipped": len(walk.skipped),
            "excluded": walk.excluded,
            "parts": [{"entries": len(c), "bytes": sum(e.size for e in c)} for c in divided],
        }

    def revert(self, staging: str) -> None:
        files = Staging(staging)
        for part in range(1, self.parts + 1):
            remove_file(files.listing(part))
        remove_file(files.skipped)


def balance(entries: Sequence[Entry], parts: int) -> list[list[Entry]]:
    """Divide `entries` so that the parts take about the same time; each part in the order of paths."""
    divided: list[list[Entry]] = [[] for _ in range(parts)]
    divided[-1].extend(entry for entry in entries if entry.kind is Kind.FOLDER)
    loads = [(0, part) for part in range(parts)]
    for entry in sorted((e for e in entries if e.kind is not Kind.FOLDER), key=lambda e: (-e.size, e.path)):
        load, part = loads[0]
        heapq.heapreplace(loads, (load + entry.size + _ENTRY_COST, part))
        divided[part].append(entry)
    for content in divided:
        content.sort(key=lambda entry: entry.path)
    return divided


class _Walk:
    """Iterates over the entries below a folder; counts what it leaves out."""

    def __init__(self, root: bytes, exclude: Sequence[str]) -> None:
        self._root = root
        patterns = [fnmatch.translate(pattern.rstrip("/")) for pattern in exclude]
        self._excludes = re.compile("|".join(patterns)).match if patterns else None
        self.excluded = 0
        self.skipped: list[tuple[str, str]] = []

    def __iter__(self) -> Iterator[Entry]:
        folders = [""]
        while folders:
            folder = folders.pop()
            for name, found in self._list(folder):
                path = f"{folder}/{name}" if folder else name
                if self._excludes and (self._excludes(name) or self._excludes(path)):
                    self.excluded += 1
                    continue
                entry = self._look(path, found)
                if entry is None:
                    continue
                if entry.kind is Kind.FOLDER:
                    folders.append(path)
                yield entry

    def _list(self, folder: str) -> list[tuple[str, os.DirEntry[bytes]]]:
        path = os.path.join(self._root, to_bytes(folder))
        try:
            with os.scandir(path) as found:
                return sorted(((from_bytes(item.name), item) for item in found), key=lambda pair: pair[0])
        except (FileNotFoundError, NotADirectoryError):
            problem, advice = "is gone, or no folder any more", "retry when nothing changes it"
            raise FolderUnusable(from_bytes(path), problem, advice) from None
        except OSError as error:
            problem = f"cannot be read, {reason(error)}"
            raise FolderUnusable(from_bytes(path), problem, "make it readable, or exclude it") from error

    def _look(self, path: str, found: os.DirEntry[bytes]) -> Entry | None:
        """The entry for what was found; None for what cannot be archived."""
        try:
            state = found.stat(follow_symlinks=False)
            target = from_bytes(os.readlink(found.path)) if stat.S_ISLNK(state.st_mode) else ""
        except FileNotFoundError:
            raise FileChanged(path, "it is gone") from None
        except OSError as error:
            raise FileUnusable(path, reason(error)) from error
        kind = _kind(state.st_mode)
        if kind is None:
            self.skipped.append((path, _other_kind(state.st_mode)))
            return None
        # Found out here, it costs a second and is one clear error, not two from tasks side by side.
        if kind is Kind.FILE and not os.access(found.path, os.R_OK, effective_ids=True):
            raise FileUnusable(path, "permission denied")
        size = state.st_size if kind is Kind.FILE else 0
        mode, owner = stat.S_IMODE(state.st_mode), (state.st_uid, state.st_gid)
        return Entry(path, kind, size, mode, state.st_mtime_ns, *owner, state.st_dev, state.st_ino, target)


def _kind(mode: int) -> Kind | None:
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    return Kind.LINK if stat.S_ISLNK(mode) else None


def _other_kind(mode: int) -> str:
    return next((name for test, name in _OTHER_KINDS if test(mode)), "unknown kind")


def _log_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    for path, kind in skipped[:_LOGGED_SKIPS]:
        LOG.warning("skipped %s: a %s has no content to archive", shown(path), kind)
    if len(skipped) > _LOGGED_SKIPS:
        LOG.warning("skipped %d more; the manifest lists all of them", len(skipped) - _LOGGED_SKIPS)
