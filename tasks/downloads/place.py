"""Putting what was fetched in its place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from typing import Any

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.downloads.remote import RemoteFile
from ebbtide.tasks.downloads.slot import Slot, identity
from ebbtide.tasks.downloads.staging import Downloads
from ebbtide.tasks.files.errors import no_space_or
from ebbtide.tasks.files.locking import locked
from ebbtide.tasks.files.names import to_json
from ebbtide.tasks.files.staging import sync_folder

__all__ = ["PlaceFiles"]


class PlaceFiles(CancelableTask):
    """Give the fetched files their names in the destination.

    execute: renames each in one step: who looks sees the file of before or the new one, whole. A file that
    is replaced is kept beside it as ``.<name>.before-<job id>``, where it stays, since what it is to be
    restored from is nobody's to remove before the job has ended. Then the staging folder is removed. Provides
    ``downloaded``: for each file its path, bytes and sha256, and under what path the one before it is
    kept (None: there was none).

    undo: each name is what it was before: the file that was replaced, or nothing. A file that somebody
    else has put there since stays. Another job that replaced ours keeps what we had replaced.

    Args of execute:
        staging: folder of this job with the fetched files.
        files: what was downloaded.
        replace: whether files of these names may be replaced.
        fetched_1, ...: what `FetchFile` says of each.
    """

    default_provides = "downloaded"

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(requires=[f"fetched_{number}" for number in range(1, count + 1)], **options)

    def execute(
        self, staging: str, files: Sequence[RemoteFile], replace: bool, **fetched: dict[str, Any]
    ) -> list[dict[str, Any]]:
        places = Downloads(staging)
        slots = _slots(places, files, self.job.id)
        try:
            if not self.saved or not self.interrupted:
                # By these the undo tells ours from what somebody else has put there.
                self.checkpoint({"made": [identity(slot.part) for slot in slots]})
            with locked(places.destination, self.sleep):
                for done, slot in enumerate(slots):
                    self.checkpoint()
                    self.report(done / len(slots), f"{done:,} of {len(slots):,} files in place")
                    slot.place(replace)
            sync_folder(places.destination)
            with contextlib.suppress(FileNotFoundError):  # of a run that died after it had removed it
                shutil.rmtree(staging)
        except OSError as error:
            raise no_space_or(error, places.destination) from error
        return [_told(slot, fetched[f"fetched_{number}"]) for number, slot in enumerate(slots, start=1)]

    def revert(self, staging: str, files: Sequence[RemoteFile]) -> None:
        if not self.saved:
            return  # it had put nothing anywhere
        places = Downloads(staging)
        os.makedirs(staging, mode=0o700, exist_ok=True)
        with locked(places.destination, self.sleep):
            for slot, made in zip(_slots(places, files, self.job.id), self.saved["made"], strict=True):
                slot.withdraw(tuple(made))
        sync_folder(places.destination)


def _slots(places: Downloads, files: Sequence[RemoteFile], job_id: str) -> list[Slot]:
    return [
        Slot(places.part(number), places.destination, file.file_name, job_id)
        for number, file in enumerate(files, start=1)
    ]


def _told(slot: Slot, fetched: dict[str, Any]) -> dict[str, Any]:
    kept = to_json("replaced", slot.kept) if os.path.lexists(slot.kept) else {"replaced": None}
    return {**to_json("path", slot.target), **fetched, **kept}
