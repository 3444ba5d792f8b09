"""The manifest: what a version holds."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.files.entries import Entry, Kind, decimal_seconds, read_listing
from ebbtide.tasks.files.names import from_bytes, to_json
from ebbtide.tasks.files.progress import Meter
from ebbtide.tasks.files.staging import Staging, durable, remove_file

__all__ = ["FORMAT", "WriteManifest", "read_entries"]

FORMAT = "ebbtide-manifest/1"
_BEGIN = b'"entries": [\n'


class WriteManifest(CancelableTask):
    """Write ``manifest.json``: one JSON object, one entry a line, in the order of the archives.

    execute: joins listings and digests. An entry has path, kind, mode (octal), mtime (seconds, as text),
    the archive it is in, and size and sha256 for a file, target for a link. A name that is no UTF-8
    has its exact bytes in ``path_base64`` (``target_base64``). Returns how many entries it wrote.

    undo: removes the manifest.

    Args of execute:
        source: folder that was scanned.
        staging: folder of this job with listings, digests and archives.
        listing: what `ScanFolder` counted.
    """

    def execute(self, source: Path, staging: str, listing: dict[str, Any]) -> dict[str, int]:
        files, parts = Staging(staging), listing["parts"]
        total = sum(part["entries"] for part in parts)
        meter = Meter(self, total, 0)
        with durable(files.manifest) as out:
            self._write_head(out, source, files, listing)
            written = 0
            for part, counts in enumerate(parts, start=1):
                for record in _records(files, part, counts["entries"]):
                    written += 1
                    comma = "," if written < total else ""
                    out.write(f"{json.dumps(record)}{comma}\n".encode("ascii"))
                    meter.step(files=1)
            out.write(b"]}\n")
        return {"entries": written}

    def _write_head(self, out: BinaryIO, source: Path, files: Staging, listing: dict[str, Any]) -> None:
        root = from_bytes(os.fsencode(os.path.realpath(source)))
        head: dict[str, Any] = {"format": FORMAT, **to_json("source", root)}
        head |= {"job": self.job.id, "attempt": self.job.attempt}
        head |= {name: listing[name] for name in ("files", "folders", "links", "bytes")}
        head["archives"] = [
            {"name": os.path.basename(path), "entries": counts["entries"], "size": os.path.getsize(path)}
            for path, counts in zip(map(files.archive, itertools.count(1)), listing["parts"], strict=False)
            if counts["entries"]
        ]
        with open(files.skipped, "rb") as lines:
            head["skipped"] = [json.loads(line) for line in lines]
        out.write(json.dumps(head)[:-1].encode("ascii") + b",\n" + _BEGIN)

    def revert(self, staging: str) -> None:
        remove_file(Staging(staging).manifest)


def _records(files: Staging, part: int, count: int) -> Iterator[dict[str, Any]]:
    archive = os.path.basename(files.archive(part))
    with open(files.digests(part), encoding="ascii") as digests:
        for entry in read_listing(files.listing(part)):
            yield _record(entry, archive, digests.readline().strip() if entry.kind is Kind.FILE else "")


def _record(entry: Entry, archive: str, digest: str) -> dict[str, Any]:
    record: dict[str, Any] = {**to_json("path", entry.path), "kind": entry.kind, "mode": f"{entry.mode:04o}"}
    record["mtime"] = decimal_seconds(entry.mtime_ns)
    if entry.kind is Kind.FILE:
        record |= {"size": entry.size, "sha256": digest}
    elif entry.kind is Kind.LINK:
        record |= to_json("target", entry.target)
    record["archive"] = archive
    return record


def read_entries(path: str) -> Iterator[dict[str, Any]]:
    """The entries of a manifest that `WriteManifest` wrote, one at a time: it may not fit into memory."""
    with open(path, "rb") as lines:
        for line in lines:
            if line == _BEGIN:
                break
        for line in lines:
            if line == b"]}\n":
                return
            yield json.loads(line.rstrip(b",\n"))
    raise ValueError(f"manifest {os.path.basename(path)} is cut off")
