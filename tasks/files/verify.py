"""Comparing archives with their manifest."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.files.errors import ArchiveDamaged
from ebbtide.tasks.files.manifest import read_entries
from ebbtide.tasks.files.names import from_json, shown
from ebbtide.tasks.files.progress import Meter
from ebbtide.tasks.files.source_file import CHUNK
from ebbtide.tasks.files.staging import Staging

__all__ = ["VerifyArchives"]

_TAR_BUFFER = 32 * 1024  # tarfile copies what is left of it at each small read


class VerifyArchives(CancelableTask):
    """Read every archive again and compare it with the manifest.

    execute: unpacks in memory, computes the digest of every file and compares it, and names, kinds,
    modes and targets, with the manifest, whose digests come from the source itself. A difference, a
    missing or an extra member, and a damaged archive are errors. Returns how many entries agreed.

    undo: nothing, it changes nothing.

    Args of execute:
        staging: folder of this job with the archives and the manifest.
        listing: what `ScanFolder` counted.
    """

    def execute(self, staging: str, listing: dict[str, Any]) -> dict[str, int]:
        files = Staging(staging)
        meter = Meter(self, sum(part["entries"] for part in listing["parts"]), listing["bytes"])
        compared = 0
        entries = read_entries(files.manifest)
        for name, records in itertools.groupby(entries, lambda record: str(record["archive"])):
            for record, seen in _pairs(os.path.join(files.version, name), name, records, meter):
                if seen != _wanted(record):
                    path = shown(from_json("path", record))
                    raise ArchiveDamaged(name, f"{path} is not what was read for its checksum")
                compared += 1
                meter.step(files=1)
        return {"entries": compared}


def _pairs(
    path: str, name: str, records: Iterator[dict[str, Any]], meter: Meter
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each record with what the archive holds in its place.

    Only the errors of unpacking are caught here, so that `Cancelled` and our own pass.
    """
    try:
        with (
            gzip.open(path, "rb") as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|", bufsize=_TAR_BUFFER, encoding="utf-8") as archive,
        ):
            for record in records:
                member = archive.next()
                if member is None:
                    raise ArchiveDamaged(name, f"{shown(from_json('path', record))} is missing in it")
                yield record, _seen(archive, member, meter)
                # It remembers every member, which would fill the memory.
                archive.members.clear()  # type: ignore[attr-defined]  # not in the type stubs
            if archive.next() is not None:
                raise ArchiveDamaged(name, "it holds more than that")
            while unpacked.read(CHUNK):  # to the end, where gzip keeps its own checksum
                meter.step()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ArchiveDamaged(name, f"it cannot be unpacked ({error})") from error


def _seen(archive: tarfile.TarFile, member: tarfile.TarInfo, meter: Meter) -> dict[str, Any]:
    seen: dict[str, Any] = {"path": member.name, "kind": "other", "mode": f"{member.mode:04o}"}
    if member.issym():
        seen |= {"kind": "link", "target": member.linkname}
    elif member.isdir():
        seen["kind"] = "folder"
    elif member.isreg():
        seen |= {"kind": "file", "size": member.size, "sha256": _digest(archive, member, meter)}
    return seen


def _digest(archive: tarfile.TarFile, member: tarfile.TarInfo, meter: Meter) -> str:
    digest = hashlib.sha256()
    content = archive.extractfile(member)
    while content is not None and (data := content.read(CHUNK)):
        digest.update(data)
        meter.step(len(data))
    return digest.hexdigest()


def _wanted(record: dict[str, Any]) -> dict[str, Any]:
    exact = ("kind", "mode", "size", "sha256")
    wanted: dict[str, Any] = {name: record[name] for name in exact if name in record}
    wanted["path"] = from_json("path", record)
    if "target" in record:
        wanted["target"] = from_json("target", record)
    return wanted
