"""Slot: one name in the destination, what stood there, and what a job puts there.

<name>                      what people see
.<name>.before-<job id>     what the job of that id has replaced
"""

from __future__ import annotations

import glob
import os

from ebbtide.tasks.downloads.prepare import refuse_taken
from ebbtide.tasks.downloads.staging import kept_name
from ebbtide.tasks.files.staging import remove_file

__all__ = ["Slot", "identity"]


def identity(path: str) -> tuple[int, int] | None:
    """By what a file is told from another of the same name; None: there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class Slot:
    """Every method may be repeated after a crash in the middle of it. Call them with the destination locked.

    How far it has come is told by the names alone: `part` is gone once the file is in its place.
    """

    def __init__(self, part: str, destination: str, name: str, job_id: str) -> None:
        self.part = part
        self.target = os.path.join(destination, name)
        self.kept = os.path.join(destination, kept_name(name, job_id))
        self._others = os.path.join(glob.escape(destination), glob.escape(kept_name(name, "")) + "*")

    def place(self, replace: bool) -> None:
        """Put the file in its place.

        Raises:
            DownloadRefused: something stands there that may not be replaced.
        """
        if not os.path.lexists(self.part):
            return  # done before a crash
        if identity(self.target) == identity(self.part):
            os.unlink(self.part)  # linked before a crash
            return
        if not os.path.lexists(self.kept):
            refuse_taken(self.target, replace)
            if not os.path.lexists(self.target):
                self._put_new(replace)
                return
            self._keep()
        os.replace(self.part, self.target)

    def _put_new(self, replace: bool) -> None:
        try:
            os.link(self.part, self.target)  # unlike a rename it puts nothing over what has just come
        except FileExistsError:
            self.place(replace)
            return
        except OSError:  # a file system without links
            os.rename(self.part, self.target)
            return
        os.unlink(self.part)

    def _keep(self) -> None:
        try:
            os.link(self.target, self.kept, follow_symlinks=False)
        except OSError:  # a file system without links: for a moment there is no file of that name
            os.rename(self.target, self.kept)

    def withdraw(self, made: tuple[int, int] | None) -> None:
        """Undo `place`, whatever it had done. `made` is the identity of the file that was to be put there."""
        stands = identity(self.target)
        if stands is not None and stands == made:
            if os.path.lexists(self.kept):
                os.replace(self.kept, self.target)
            else:
                os.unlink(self.target)
            return
        followers = [path for path in glob.glob(self._others, include_hidden=True) if identity(path) == made]
        for path in followers:
            # Another job has replaced ours: now it has replaced what stood there before.
            if os.path.lexists(self.kept):
                os.replace(self.kept, path)
            else:
                remove_file(path)
        if os.path.lexists(self.kept):
            if stands is None:
                os.rename(self.kept, self.target)
            else:
                os.unlink(self.kept)  # the same file still, or somebody else's stands there
