"""What a scan finds: one entry for each file, folder and link; and the listings that keep them on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import BinaryIO, NamedTuple

__all__ = ["Entry", "Kind", "decimal_seconds", "read_listing", "write_listing"]


class Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


class Entry(NamedTuple):
    """One thing found in the source, as it was at the scan.

    `path` is relative to the source and, like `target`, text as `names.from_bytes` makes it. `size` is
    bytes of content, 0 for folders and links; `mode` the permission bits; `target` what a link says.
    """

    path: str
    kind: Kind
    size: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    device: int
    inode: int
    target: str = ""


def write_listing(out: BinaryIO, entries: Iterable[Entry]) -> None:
    """Write one JSON array a line. A listing is read by these tasks alone: names keep their surrogates."""
    for entry in entries:
        out.write(json.dumps(entry, separators=(",", ":")).encode("ascii") + b"\n")


def read_listing(path: str) -> Iterator[Entry]:
    """The entries of a listing, in the order in which they were written."""
    with open(path, "rb") as lines:
        for line in lines:
            name, kind, *rest = json.loads(line)
            yield Entry(name, Kind(kind), *rest)


def decimal_seconds(nanoseconds: int) -> str:
    """Seconds since 1970 as text with all nine digits, which a float or a JSON number would lose."""
    whole, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{rest:09d}"
