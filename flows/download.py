"""download: fetch files over HTTP, compare them with their digests, and put them in their places."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from taskflow import flow as taskflow_flow
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows.folder import Folder
from ebbtide.flows.registry import flow
from ebbtide.flows.secret import Secret
from ebbtide.tasks.downloads import FetchFile, PlaceFiles, PrepareDownloads, RemoteFile

__all__ = ["MAX_FILES", "download"]

MAX_FILES = 1000


def _remote(value: str | RemoteFile) -> RemoteFile:
    return RemoteFile(value) if isinstance(value, str) else value


def _refuse_one_name_twice(files: list[RemoteFile]) -> list[RemoteFile]:
    names: set[str] = set()
    for file in files:
        if file.file_name in names:
            raise ValueError(f"should have names of their own, and two are called {file.file_name!r:.80}")
        names.add(file.file_name)
    return files


Files = Annotated[
    list[Annotated[str | RemoteFile, AfterValidator(_remote)]],
    Field(min_length=1, max_length=MAX_FILES),
    AfterValidator(_refuse_one_name_twice),
]


@flow("download", version=1, returns="downloaded")
def download(
    files: Files,
    destination: Folder,
    replace: bool = False,
    max_bytes: Annotated[int, Field(ge=1)] = 10 * 1024**3,
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0,
    retries: Annotated[int, Field(ge=0, le=100)] = 5,
    redirects: Annotated[int, Field(ge=0, le=20)] = 5,
    token: Secret | None = None,
) -> taskflow_flow.Flow:
    """Fetch files over HTTP side by side and put them into a folder, all of them or none.

    Args:
        files: addresses; or objects with url and, if wanted, name, sha256, first_byte, last_byte.
        destination: the folder to put them into; made where it is missing.
        replace: whether files of these names may be replaced; each is then kept beside the new one.
        max_bytes: a larger file is an error.
        timeout_seconds: how long a server may be silent.
        retries: how often in a row a server is asked again without any more bytes having come.
        redirects: how many are followed for one request; never from https to http.
        token: sent as a bearer token, to the servers that the addresses name and to no other.
    """
    fetch = unordered_flow.Flow("fetch")
    numbers = range(1, len(files) + 1)
    fetch.add(*(FetchFile(each, name=f"fetch-{each}", provides=f"fetched_{each}") for each in numbers))
    return linear_flow.Flow("download").add(
        PrepareDownloads(name="prepare"), fetch, PlaceFiles(len(files), name="place")
    )
