"""A folder that is one user's alone."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from ebbtide.errors import FolderRefused

__all__ = ["closed_folder"]

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def closed_folder(path: str) -> Iterator[int]:
    """A descriptor of the folder, for use as `dir_fd`; it is made, with mode 0700, when it is not there.

    Raises:
        FolderRefused: others may look or write into it, or put another one into its place.
    """
    try:
        try:
            descriptor = os.open(path, _FLAGS)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise FolderRefused(path, f"it is no folder that can be opened ({error.strerror})") from error
    try:
        _refuse_shared(path, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_shared(path: str, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise FolderRefused(path, f"it belongs to user {found.st_uid}; name a folder of your own")
    if found.st_mode & 0o077:
        raise FolderRefused(path, f"others may use it; chmod 700 {path}")
    above = os.stat("..", dir_fd=descriptor)
    # A group of one's own is usual where the umask is 002.
    shared = 0o002 if above.st_gid == os.getegid() else 0o022
    if above.st_mode & shared and not above.st_mode & stat.S_ISVTX:
        raise FolderRefused(path, "others may write into the folder that it is in; name another one")
