"""Checksums of the source's files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.files.entries import Kind, read_listing
from ebbtide.tasks.files.progress import Meter
from ebbtide.tasks.files.source_file import CHUNK, SourceFile
from ebbtide.tasks.files.staging import Staging, durable, remove_file

__all__ = ["ChecksumPart"]


class ChecksumPart(CancelableTask):
    """Compute the SHA-256 of each file of one part, from the source itself and not from the archive.

    execute: reads every file of the part's listing and writes its digest, one a line, into the staging
    folder. A file that cannot be read or that changes meanwhile is an error. Returns how many files
    and bytes it read.

    undo: removes the digests.

    Args:
        part: which part, counted from 1.

    Args of execute:
        source: folder that was scanned.
        staging: folder of this job with the listing.
        listing: what `ScanFolder` counted.
    """

    def __init__(self, part: int, **options: Any) -> None:
        super().__init__(**options)
        self.part = part

    def execute(self, source: Path, staging: str, listing: dict[str, Any]) -> dict[str, int]:
        files, counts = Staging(staging), listing["parts"][self.part - 1]
        root = os.fsencode(os.path.realpath(source))
        meter = Meter(self, counts["entries"], counts["bytes"])
        done = 0
        with durable(files.digests(self.part)) as out:
            for entry in read_listing(files.listing(self.part)):
                if entry.kind is Kind.FILE:
                    digest = hashlib.sha256()
                    with SourceFile(root, entry, meter) as file:
                        for left in range(entry.size, 0, -CHUNK):
                            digest.update(file.read(min(CHUNK, left)))
                    out.write(digest.hexdigest().encode("ascii") + b"\n")
                    done += 1
                meter.step(files=1)
        return {"files": done, "bytes": counts["bytes"]}

    def revert(self, staging: str) -> None:
        remove_file(Staging(staging).digests(self.part))
