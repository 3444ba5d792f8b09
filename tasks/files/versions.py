"""The published versions of a destination, and the link that says which one is current.

    destination/versions/<version>/             one folder for each publication
    destination/versions/.<version>.previous    a link with the words of `current` before it, if there was one
    destination/current -> versions/<version>

The `.previous` link is both the record of what to go back to and, when it is renamed over `current`, the way
back: one step, for which there is always room on the disk.
"""

from __future__ import annotations

import errno
import os

from ebbtide.tasks.files.errors import FolderUnusable
from ebbtide.tasks.files.staging import remove_file, sync_folder

__all__ = ["Versions"]


class Versions:
    """The versions of one destination. Every method may be repeated after a crash in the middle of it."""

    def __init__(self, destination: str) -> None:
        self.destination = destination
        self.folder = os.path.join(destination, "versions")
        self.current = os.path.join(destination, "current")

    def path(self, version: str) -> str:
        return os.path.join(self.folder, version)

    def refuse_foreign(self) -> None:
        """Raise `FolderUnusable` when something else than ours has the name of the link or of the folder."""
        advice = "move it away, or name another destination"
        if os.path.lexists(self.current) and not os.path.islink(self.current):
            raise FolderUnusable(self.destination, "has a `current` that is no link", advice)
        if os.path.lexists(self.folder) and (os.path.islink(self.folder) or not os.path.isdir(self.folder)):
            raise FolderUnusable(self.destination, "has a `versions` that is no folder", advice)

    def knows(self, version: str) -> bool:
        """Whether anything here is of this version or speaks of it."""
        words = _words(version)
        if os.path.lexists(self.path(version)) or _read_link(self.current) == words:
            return True
        return bool(self._followers(words))

    def publish(self, version: str, made: str, link: str) -> str | None:
        """Move the folder `made` here and let `current` point to it; returns the words of the link before.

        Call it with the destination locked. `link` is a free name, on the same disk and of this job
        alone: new links are made there and then renamed.
        """
        here, words, record = self.path(version), _words(version), self._record(version)
        if not os.path.lexists(here):
            os.rename(made, here)
        before = _read_link(self.current)
        if before == words or self._followers(words):
            return _read_link(record)  # switched already, before a crash; others may have followed
        _replace_link(record, before, link)
        sync_folder(self.folder)
        _replace_link(self.current, words, link)
        sync_folder(self.destination)
        return before

    def withdraw(self, version: str, made: str, link: str) -> None:
        """Undo `publish`: `current` says what it said before, and the version's folder is `made` again.

        Call it with the destination locked. Where another version was published on top, `current` stays
        and that one's record takes over what this one's says: as if this version had never been.
        """
        here, words, record = self.path(version), _words(version), self._record(version)
        for follower in self._followers(words):
            _replace_link(follower, _read_link(record), link)
        if _read_link(self.current) == words:
            if os.path.islink(record):
                os.replace(record, self.current)
            else:
                remove_file(self.current)
        remove_file(record)
        sync_folder(self.destination)
        if os.path.isdir(here):
            os.rename(here, made)

    def _record(self, version: str) -> str:
        return os.path.join(self.folder, f".{version}.previous")

    def _followers(self, words: str) -> list[str]:
        """The records that say `words`: at most one, of the version published next."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        records = (os.path.join(self.folder, name) for name in names if name.endswith(".previous"))
        return [record for record in records if _read_link(record) == words]


def _words(version: str) -> str:
    return f"versions/{version}"


def _read_link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):
            return None
        raise


def _replace_link(path: str, words: str | None, link: str) -> None:
    """Let the link `path` say `words`, in one step; None removes it. `link` is made on the way."""
    if words is None:
        remove_file(path)
        return
    remove_file(link)  # of a run that died here
    os.symlink(words, link)
    os.replace(link, path)
