"""Getting the destination ready."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.files.errors import FolderUnusable, no_space_or, reason
from ebbtide.tasks.files.staging import Staging
from ebbtide.tasks.files.versions import Versions

__all__ = ["MakesStaging", "PrepareDestination", "remove_if_empty"]


class MakesStaging(CancelableTask):
    """Base of the tasks that make a job's staging folder, and the folders on the way to it.

    undo: removes the staging folder with all that is still in it, then those of the folders that this
    task has made, innermost first, as far as nobody has put anything into them.
    """

    def make(self, folder: str, staging: str, *inside: str) -> None:
        """Make `folder` where it is missing, and an empty `staging`, its owner's alone, with `inside` in it.

        Raises:
            NoSpace, FolderUnusable: that cannot be.
        """
        try:
            self._make_missing(folder, staging)
            if os.path.lexists(staging):
                shutil.rmtree(staging)  # of this job, whose runner died here
            # What comes out of it may be files that others have no right to read.
            for name in (staging, *inside):
                os.mkdir(name, 0o700)
        except OSError as error:
            raise no_space_or(error, os.path.dirname(staging)) from error

    def _make_missing(self, folder: str, staging: str) -> None:
        # A folder is recorded before it is made: were it the other way round, one that was made just
        # before the runner died would be nobody's. What is recorded and then found to exist was made
        # by this task before it was interrupted, or by somebody else after we had looked.
        before = self.saved["made"] if self.interrupted and self.saved else []
        made = [name for name in before if os.path.isdir(name)]
        self.checkpoint({"made": made, "staging": staging})
        for name in _missing(folder):
            self.checkpoint({"made": [*made, name], "staging": staging})
            try:
                os.mkdir(name)
            except FileExistsError:
                self.checkpoint({"made": made, "staging": staging})
            else:
                made.append(name)

    def revert(self) -> None:
        if not self.saved:
            return  # it made nothing
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.saved["staging"])
        for name in reversed(self.saved["made"]):
            remove_if_empty(name)


class PrepareDestination(MakesStaging):
    """Make the destination, where it is missing, and the job's staging folder in it.

    execute: refuses a source that is missing or no folder, a destination that is something else than a
    folder, two folders of which one lies in the other, and a destination whose ``current`` or
    ``versions`` is not ours. Then makes the missing folders down to ``destination/versions``, and an
    empty staging folder. Provides ``staging``, its absolute path.

    undo: that of `MakesStaging`.

    Args of execute:
        source: folder to be read.
        destination: folder to publish into; it and its parents may be missing.
    """

    default_provides = "staging"

    def execute(self, source: Path, destination: Path) -> str:
        _refuse_source(source)
        _refuse_destination(destination)
        target = os.path.realpath(destination)
        _refuse_nesting(os.path.realpath(source), target)
        staging = Staging.of(target, self.job.id)
        self.make(Versions(target).folder, staging.folder, staging.version)
        return staging.folder


def remove_if_empty(folder: str) -> None:
    """Remove a folder; one that is gone, or that holds something, stays as it is."""
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise


def _missing(folder: str) -> list[str]:
    """The folders on the way to `folder` that do not exist, outermost first."""
    missing: list[str] = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing[::-1]


def _refuse_source(source: Path) -> None:
    name = os.fspath(source)
    try:
        mode = os.stat(name).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FolderUnusable(name, "is missing", "name a folder that exists as the source") from None
    except OSError as error:
        problem = f"cannot be read, {reason(error)}"
        raise FolderUnusable(name, problem, "make it readable, then retry") from error
    if not stat.S_ISDIR(mode):
        raise FolderUnusable(name, "is no folder", "name a folder as the source")


def _refuse_destination(destination: Path) -> None:
    name = os.fspath(destination)
    if os.path.lexists(name) and not os.path.isdir(name):
        raise FolderUnusable(name, "is no folder", "name a folder, or a new path, as the destination")
    Versions(name).refuse_foreign()


def _refuse_nesting(source: str, destination: str) -> None:
    advice = "name a destination beside the source"
    if _lies_in(destination, source):
        raise FolderUnusable(destination, "lies in the source", advice)
    if os.path.exists(destination) and _lies_in(source, destination):
        raise FolderUnusable(source, "lies in the destination", advice)


def _lies_in(inner: str, outer: str) -> bool:
    """Whether `inner`, which may be missing, is `outer` or below it. Both are real paths.

    By inode: folders that are mounted a second time have two real paths.
    """
    identity, folder = os.stat(outer), inner
    while True:
        with contextlib.suppress(OSError):  # missing still, or not ours to look at
            if os.path.samestat(os.stat(folder), identity):
                return True
        parent = os.path.dirname(folder)
        if parent == folder:
            return False
        folder = parent
