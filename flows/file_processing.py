"""file-processing: archive a folder into compressed, checked and versioned archives."""

from __future__ import annotations

from taskflow import flow as taskflow_flow
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows.folder import Folder
from ebbtide.flows.registry import flow
from ebbtide.tasks.files import (
    ArchivePart,
    ChecksumPart,
    PrepareDestination,
    PublishVersion,
    ScanFolder,
    VerifyArchives,
    WriteManifest,
)

__all__ = ["PARTS", "file_processing"]

PARTS = 4


@flow("file-processing", version=1, returns="published")
def file_processing(
    source: Folder, destination: Folder, exclude: tuple[str, ...] = ("__pycache__", "site-packages")
) -> taskflow_flow.Flow:
    """Archive a folder, checksum it, verify the archives against the checksums and publish them in one step.

    Args:
        source: the folder to read.
        destination: where to publish: ``destination/current`` is a link to the newest of
            ``destination/versions``. Made where it is missing; neither may lie in the other.
        exclude: shell patterns of names, or of paths below the source, to leave out.
    """
    parts = range(1, PARTS + 1)
    read = unordered_flow.Flow("read")
    read.add(*(ArchivePart(part, name=f"archive-{part}") for part in parts))
    read.add(*(ChecksumPart(part, name=f"checksum-{part}") for part in parts))
    return linear_flow.Flow("file-processing").add(
        PrepareDestination(name="prepare"),
        ScanFolder(PARTS, name="scan"),
        read,
        WriteManifest(name="manifest"),
        VerifyArchives(name="verify"),
        PublishVersion(name="publish"),
    )
