"""Archives of the source's files."""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.files.entries import Entry, Kind, decimal_seconds, read_listing
from ebbtide.tasks.files.progress import Meter
from ebbtide.tasks.files.source_file import CHUNK, SourceFile
from ebbtide.tasks.files.staging import Staging, durable, remove_file

__all__ = ["ArchivePart", "GzipWriter", "tar_header"]

_BLOCK = 256 * 1024
_GZIP_CONTAINER = 16 + zlib.MAX_WBITS  # tells zlib to write gzip's header and its checksum

_TAR_TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.FOLDER: tarfile.DIRTYPE, Kind.LINK: tarfile.SYMTYPE}


class ArchivePart(CancelableTask):
    """Write one part of the source into a compressed tar archive.

    execute: writes ``part-<n>.tar.gz`` (POSIX tar, gzip) into the version that is being made: files with
    their content, folders, and links as links. Modes, owners and times to the nanosecond are kept;
    a hard-linked file is stored under each of its names, a sparse one with its zeros; extended
    attributes are not stored. A file that cannot be read or that changes meanwhile is an error. A part
    with no entries makes no archive. Returns entries, bytes read and bytes stored.

    undo: removes the archive.

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
        if not counts["entries"]:
            return {"entries": 0, "bytes": 0, "stored": 0}
        meter = Meter(self, counts["entries"], counts["bytes"])
        root = os.fsencode(os.path.realpath(source))
        with durable(files.archive(self.part)) as out:
            packed = GzipWriter(out)
            for entry in read_listing(files.listing(self.part)):
                packed.write(tar_header(entry))
                if entry.kind is Kind.FILE:
                    with SourceFile(root, entry, meter) as file:
                        for left in range(entry.size, 0, -CHUNK):
                            packed.write(file.read(min(CHUNK, left)))
                    packed.write(tarfile.NUL * (-entry.size % tarfile.BLOCKSIZE))
                meter.step(files=1)
            packed.write(tarfile.NUL * (2 * tarfile.BLOCKSIZE))
            packed.finish()
            stored = out.tell()
        return {"entries": counts["entries"], "bytes": counts["bytes"], "stored": stored}

    def revert(self, staging: str) -> None:
        remove_file(Staging(staging).archive(self.part))


def tar_header(entry: Entry) -> bytes:
    """What stands in a tar archive before the content of an entry."""
    info = tarfile.TarInfo(entry.path)
    info.type = _TAR_TYPES[entry.kind]
    info.size, info.mode, info.linkname = entry.size, entry.mode, entry.target
    info.uid, info.gid = entry.uid, entry.gid
    info.mtime, rest = divmod(entry.mtime_ns, 1_000_000_000)
    if rest:
        info.pax_headers = {"mtime": decimal_seconds(entry.mtime_ns)}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class GzipWriter:
    """Compresses what is written to it into `out`; `finish()` ends the stream.

    It gathers small pieces first: each call into zlib gives up the interpreter lock and has to win it
    back from the tasks that run beside it, and a tar of small files is written in pieces of 512 bytes.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP_CONTAINER)
        self._pieces: list[bytes] = []
        self._gathered = 0

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered >= _BLOCK:
            self._pack()

    def finish(self) -> None:
        self._pack()
        self._out.write(self._packer.flush())

    def _pack(self) -> None:
        self._out.write(self._packer.compress(b"".join(self._pieces)))
        self._pieces.clear()
        self._gathered = 0
