"""Ready-made tasks on files: scan a folder, archive and checksum it in parts, verify, publish."""

from ebbtide.tasks.files.archive import ArchivePart
from ebbtide.tasks.files.checksum import ChecksumPart
from ebbtide.tasks.files.destination import PrepareDestination
from ebbtide.tasks.files.errors import (
    ArchiveDamaged,
    FileChanged,
    FileTaskError,
    FileUnusable,
    FolderUnusable,
    NoSpace,
)
from ebbtide.tasks.files.manifest import WriteManifest
from ebbtide.tasks.files.publish import PublishVersion
from ebbtide.tasks.files.scan import ScanFolder
from ebbtide.tasks.files.verify import VerifyArchives

__all__ = [
    "ArchiveDamaged",
    "ArchivePart",
    "ChecksumPart",
    "FileChanged",
    "FileTaskError",
    "FileUnusable",
    "FolderUnusable",
    "NoSpace",
    "PrepareDestination",
    "PublishVersion",
    "ScanFolder",
    "VerifyArchives",
    "WriteManifest",
]
