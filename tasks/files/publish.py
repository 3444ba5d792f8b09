"""Publishing a finished version."""

from __future__ import annotations

import os
import shutil
from typing import Any

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.files.destination import remove_if_empty
from ebbtide.tasks.files.errors import no_space_or
from ebbtide.tasks.files.locking import locked
from ebbtide.tasks.files.names import to_json
from ebbtide.tasks.files.staging import Staging, sync_folder
from ebbtide.tasks.files.versions import Versions

__all__ = ["PublishVersion"]


class PublishVersion(CancelableTask):
    """Move what was made to ``destination/versions`` and let ``destination/current`` point to it.

    execute: puts every file of the version on disk for good, then moves its folder to
    ``versions/<job id>-<attempt>`` and replaces the link ``current`` in one step: who follows the link
    sees the old version or the new one, whole. The old one stays. The rest of the staging folder is removed.
    Provides ``published``: the path of the version, the words of the link before (None: there was
    none), and what the version holds.

    undo: lets ``current`` say exactly what it said before (or removes it) and moves the version back
    into the staging folder, where the undo of the tasks that made its files removes them. A version
    that another job has published since stays current.

    Args of execute:
        staging: folder of this job, in the destination, with the finished version.
        listing: what `ScanFolder` counted.
    """

    default_provides = "published"

    def execute(self, staging: str, listing: dict[str, Any]) -> dict[str, Any]:
        files = Staging(staging)
        versions = Versions(files.destination)
        try:
            if os.path.isdir(files.version):
                self._sync(files.version)
            self._make_versions(versions)
            with locked(versions.destination, self.sleep):
                versions.refuse_foreign()
                os.makedirs(staging, exist_ok=True)  # a run that died after it had removed it
                before = versions.publish(self._version, files.version, files.link)
            shutil.rmtree(staging)
        except OSError as error:
            raise no_space_or(error, versions.destination) from error
        counts = {name: listing[name] for name in ("files", "folders", "links", "bytes", "skipped")}
        previous = {"previous": None} if before is None else to_json("previous", before)
        return {**to_json("path", versions.path(self._version)), **previous, **counts}

    @property
    def _version(self) -> str:
        return f"{self.job.id}-{self.job.attempt}"

    def _sync(self, folder: str) -> None:
        names = sorted(os.listdir(folder))
        for done, name in enumerate(names):
            self.checkpoint()
            self.report(done / len(names), f"writing {name} to disk")
            file = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        sync_folder(folder)

    def _make_versions(self, versions: Versions) -> None:
        # PrepareDestination made it; but another job's undo removes it again while it is empty.
        if not os.path.isdir(versions.folder):
            self.checkpoint({"made": versions.folder})
            os.makedirs(versions.folder, exist_ok=True)

    def revert(self, staging: str) -> None:
        files = Staging(staging)
        versions = Versions(files.destination)
        if versions.knows(self._version):
            os.makedirs(staging, exist_ok=True)
            with locked(versions.destination, self.sleep):
                versions.withdraw(self._version, files.version, files.link)
        if self.saved:
            remove_if_empty(self.saved["made"])
