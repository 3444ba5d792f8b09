"""Getting the folder of a download ready."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ebbtide.tasks.downloads.errors import DownloadRefused
from ebbtide.tasks.downloads.remote import RemoteFile
from ebbtide.tasks.downloads.staging import Downloads
from ebbtide.tasks.files.destination import MakesStaging
from ebbtide.tasks.files.errors import FolderUnusable
from ebbtide.tasks.http import require_httpx

__all__ = ["PrepareDownloads", "refuse_taken"]


class PrepareDownloads(MakesStaging):
    """Make the destination, where it is missing, and the job's staging folder in it.

    execute: refuses a destination that is no folder, and a name in it that is taken: by anything, or,
    with `replace`, by what is no file or link. Provides ``staging``, its absolute path.

    undo: that of `MakesStaging`.

    Args of execute:
        files: what will be downloaded.
        destination: folder to download into; it and its parents may be missing.
        replace: whether files of these names may be replaced.
    """

    default_provides = "staging"

    def execute(self, files: Sequence[RemoteFile], destination: Path, replace: bool) -> str:
        require_httpx()
        name = os.fspath(destination)
        if os.path.lexists(name) and not os.path.isdir(name):
            advice = "name a folder, or a new path, as the destination"
            raise FolderUnusable(name, "is no folder", advice)
        target = os.path.realpath(name)
        for file in files:
            refuse_taken(os.path.join(target, file.file_name), replace)
        staging = Downloads.of(target, self.job.id)
        self.make(target, staging.folder)
        return staging.folder


def refuse_taken(path: str, replace: bool) -> None:
    """Raise `DownloadRefused` when what stands at `path` may not be replaced."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not replace:
        raise DownloadRefused(path, "is there already", "give another name, move it away, or say replace")
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise DownloadRefused(path, "is there already and no file", "give another name")
