"""The file of an SQLite store: who may touch it, and what it lies on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ebbtide.jobs.doctor.finding import Finding, fine, note, wrong

__all__ = ["look"]

_SUBJECT = "permissions"
# Several machines see the file there, and not each other's locks.
_OF_NETWORKS = frozenset(
    ("9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs")
)
_LEAST_MIB = 100
_MOUNTS = Path("/proc/self/mountinfo")


def look(path: str) -> Iterator[Finding]:
    """The file if there is one, and its folder, or the nearest one above that there is."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    troubles = [*_permissions(path, folder), *_disk(folder)]
    yield from troubles
    if not troubles and os.path.exists(path):
        yield fine(_SUBJECT, f"{path} is its owner's alone, on a local disk with room")


def _permissions(path: str, folder: str) -> Iterator[Finding]:
    above = os.stat(folder)
    if above.st_mode & 0o002 and not above.st_mode & stat.S_ISVTX:
        told = f"everybody may write into {folder}, and put another database there"
        yield wrong(_SUBJECT, told, f"chmod o-w {folder}")
    if not os.path.exists(path):
        return
    if not os.access(path, os.W_OK):
        told = f"this user may not write to {path}: nothing can be posted, cancelled or run"
        yield wrong(_SUBJECT, told, "run as its owner, or name another database in the option database")
    mode = os.stat(path).st_mode
    if mode & 0o002:
        yield wrong(_SUBJECT, f"everybody may write to {path}", f"chmod o-w {path}")
    elif mode & 0o044:
        told = f"others may read {path}: the parameters of jobs are in it"
        yield note(_SUBJECT, told, f"chmod 600 {path}, unless they are meant to")


def _disk(folder: str) -> Iterator[Finding]:
    kind = _file_system(folder)
    if kind in _OF_NETWORKS:
        told = f"{folder} is on a network file system ({kind}), where SQLite's locks do not hold"
        yield wrong("store", told, "name a file on a local disk, or use PostgreSQL")
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize >> 20
    if free < _LEAST_MIB:
        told = f"{free} MiB are free in {folder}"
        yield wrong("store", told, "make room: on a full disk nothing is stored")


def _file_system(folder: str) -> str | None:
    """The kind of file system that the folder is on; None where nothing tells."""
    if not _MOUNTS.exists():
        return None
    place, best, kind = os.path.realpath(folder), "", None
    for line in _MOUNTS.read_text().splitlines():
        mounted, _, described = line.partition(" - ")
        point = mounted.split()[4].encode().decode("unicode_escape")
        # Of several at one point the last one hides the others.
        if os.path.commonpath([place, point]) == point and len(point) >= len(best):
            best, kind = point, described.split()[0]
    return kind
