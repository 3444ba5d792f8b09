"""Ready-made tasks that download: prepare a folder, fetch files side by side, put them in their places."""

from ebbtide.tasks.downloads.errors import DownloadError, DownloadRefused
from ebbtide.tasks.downloads.fetch import FetchFile
from ebbtide.tasks.downloads.place import PlaceFiles
from ebbtide.tasks.downloads.prepare import PrepareDownloads
from ebbtide.tasks.downloads.remote import RemoteFile

__all__ = ["DownloadError", "DownloadRefused", "FetchFile", "PlaceFiles", "PrepareDownloads", "RemoteFile"]
