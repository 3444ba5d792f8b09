"""A folder that is one user's alone."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator

from ebbtide.errors import FolderRefused

__all__ = ["closed_folder", "require_links"]

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def closed_folder(path: str) -> Iterator[int]:
    """A descriptor of the folder, for use as `dir_fd`; it is made, with mode 0700, when it is not there.

    Raises:
        FolderRefused: others may look or write into it, or put another one into its place.
    """
    # A slash at its end would have a link followed.
    path = os.path.abspath(path)
    try:
        try:
            descriptor = os.open(path, _FLAGS)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if os.path.islink(path):
            raise FolderRefused(path, "it is a symbolic link; name the folder itself") from error
        raise FolderRefused(path, f"it is no folder that can be opened ({error.strerror})") from error
    except ValueError as error:
        raise FolderRefused(path, f"it is no path ({error})") from error
    try:
        _refuse_shared(path, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def require_links(path: str) -> None:
    """Refuse a folder, which is made when it is not there, whose file system gives a file no second name.

    On a full disk that cannot be tried, and the folder is not refused.

    Raises:
        FolderRefused: that, or what `closed_folder` says.
    """
    # With a dot and an ending of its own: nobody takes it for a request, and it is cleaned up if we die here.
    names = [f".{secrets.token_hex(8)}.tmp" for _ in range(2)]
    with closed_folder(path) as folder:
        try:
            os.close(os.open(names[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder))
            os.link(names[0], names[1], src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                problem = f"no file in it can have two names ({error.strerror}); name one on another disk"
                raise FolderRefused(path, problem) from error
        finally:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)


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
