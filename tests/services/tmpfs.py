"""A disk of a few megabytes that a test can fill to the last byte."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.absence import missing

SIZE_BYTES = 8 * 1024 * 1024
_CHUNK = b"\0" * 65536


class SmallDisk:
    """A file system in memory, mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, *, leaving: int = 0) -> None:
        """Fill it, but for so many bytes; whole pages are left."""
        with open(self._filler, "ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(_CHUNK)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            page = os.statvfs(self.path).f_frsize
            filler.truncate(max(0, filler.tell() - -(-leaving // page) * page))

    def free(self) -> None:
        """Give back all that `fill` took. Safe to call when it took nothing."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def mounted_disk(path: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A disk of that size while this lasts; whoever still uses it then makes the test fail."""
    path.mkdir()
    options = f"size={size_bytes},mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        missing(
            f"no small disk can be mounted here, which takes root: {mounted.stderr.partition(chr(10))[0]}"
        )
    try:
        yield SmallDisk(path)
    finally:
        left = subprocess.run(["umount", str(path)], capture_output=True, text=True, check=False)
        if left.returncode != 0:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
            pytest.fail(f"the small disk is still in use: {left.stderr.strip()}", pytrace=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk, gone after the test."""
    with mounted_disk(tmp_path / "small-disk", SIZE_BYTES) as disk:
        yield disk
