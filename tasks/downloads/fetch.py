"""Fetching one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.downloads.errors import DownloadRefused
from ebbtide.tasks.downloads.part import PartFile, Validators, opened_part, remove_part
from ebbtide.tasks.downloads.remote import RemoteFile
from ebbtide.tasks.downloads.staging import Downloads
from ebbtide.tasks.files.errors import no_space_or
from ebbtide.tasks.http import Client, Patience, RequestFailed, shown_url

if TYPE_CHECKING:
    import httpx

__all__ = ["FetchFile"]

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0


class FetchFile(CancelableTask):
    """Fetch one of the files into the staging folder.

    execute: asks the server and writes what it sends into a partial file, beside which lies what the
    server says of its content. Where it breaks off, is silent for too long or is busy, the rest is
    asked for after a while: only if the server can say that the file is still the same (``If-Range``
    with a strong ``ETag`` or ``Last-Modified``), else all of it. So it does after a crash. An answer that
    is larger than allowed, does not say where it ends, or has another digest than the one given, is an
    error. Returns bytes and sha256.

    undo: removes the partial file.

    Args:
        number: which of the files, counted from 1.

    Args of execute:
        staging: folder of this job.
        files: what is downloaded.
        max_bytes: a larger file is refused.
        timeout_seconds: how long the server may be silent.
        retries: how often in a row it is asked again without any more bytes having come.
        redirects: how many are followed.
        token: sent as ``Authorization: Bearer`` to the server that the address names.
    """

    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(**options)
        self.number = number

    def execute(
        self,
        staging: str,
        files: Sequence[RemoteFile],
        max_bytes: int,
        timeout_seconds: float,
        retries: int,
        redirects: int,
        token: str | None,
    ) -> dict[str, Any]:
        places, file = Downloads(staging), files[self.number - 1]
        path = places.part(self.number)
        patience = Patience(retries, _FIRST_WAIT_SECONDS, 2.0, _LONGEST_WAIT_SECONDS)
        try:
            with (
                opened_part(path, places.validators(self.number), self.checkpoint) as part,
                Client(self, timeout_seconds=timeout_seconds, redirects=redirects, token=token) as client,
            ):
                while not part.complete:
                    self._fetch_patiently(client, part, file, max_bytes, patience)
                part.sync()
        except OSError as error:
            raise no_space_or(error, path) from error
        if file.sha256 is not None and file.sha256.lower() != part.sha256:
            advice = "compare the address and the digest that was given, then post the job again"
            raise DownloadRefused(file.file_name, f"has the sha256 {part.sha256}, not the one given", advice)
        return {"bytes": part.size, "sha256": part.sha256}

    def revert(self, staging: str) -> None:
        places = Downloads(staging)
        remove_part(places.part(self.number), places.validators(self.number))

    def _fetch_patiently(
        self, client: Client, part: PartFile, file: RemoteFile, max_bytes: int, patience: Patience
    ) -> None:
        """Ask until all is there, or nothing more comes any more."""
        failures, most = 0, part.size
        while True:
            try:
                _Answer(self, client, part, file, max_bytes).fetch()
                return
            except RequestFailed as error:
                part.sync()
                # More than ever before: a server whose file changes each time is not asked for ever.
                failures = 1 if part.size > most else failures + 1
                most = max(most, part.size)
                wait = patience.wait(failures, error.retry_after)
                if not error.passing or wait is None:
                    raise
                self.report(_fraction(part), f"{error.problem}; asking again in {wait:.0f} s")
                self.sleep(wait)


class _Answer:
    """One request for what is missing of a part, and what comes of it."""

    def __init__(
        self, task: FetchFile, client: Client, part: PartFile, file: RemoteFile, max_bytes: int
    ) -> None:
        self._task, self._client, self._part = task, client, part
        self._file, self._max_bytes = file, max_bytes
        self._shown = shown_url(file.url)

    def fetch(self) -> None:
        part = self._part
        if part.size and part.validators.if_range is None:
            part.begin(Validators())  # nobody could say whether the rest is of the same file
        with self._client.get(self._file.url, self._headers()) as response:
            self._take(response)
            for piece in response.iter_raw():
                self._refuse_large(part.size + len(piece))
                part.write(piece)
                self._task.checkpoint()
                self._task.report(_fraction(part), _amounts(part))
        # A cut by a cancel looks like an end where the server does not say how much there is.
        self._task.checkpoint()
        total = part.validators.total
        if total is None:
            part.end()
        elif part.size != total:
            raise self._failed(f"broke off after {part.size:,} of {total:,} bytes", passing=True)

    def _headers(self) -> dict[str, str]:
        # Sizes and ranges are those of what is stored: nothing is to be packed on the way.
        headers = {"Accept-Encoding": "identity"}
        offset = self._file.first_byte + self._part.size
        if offset or self._file.is_part:
            last = "" if self._file.last_byte is None else self._file.last_byte
            headers["Range"] = f"bytes={offset}-{last}"
        if self._part.size:
            headers["If-Range"] = str(self._part.validators.if_range)
        return headers

    def _take(self, response: httpx.Response) -> None:
        """Compare the head of the answer with what was asked for, and with what is there already."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise self._failed("sends it packed, though it was asked not to", "name another address")
        if response.status_code == 206:
            self._take_range(response)
        elif response.status_code == 416:
            self._begin_anew_or(response, "does not have the bytes that are wanted")
        elif response.status_code != 200:
            raise self._failed(f"answered {response.status_code}, which is no file")
        elif self._file.is_part:
            raise self._failed("sends whole files only", "ask for the whole file")
        else:
            length = response.headers.get("content-length")
            total = int(length) if length and length.isdigit() else None
            chunked = "chunked" in response.headers.get("transfer-encoding", "")
            if total is None and not chunked and self._file.sha256 is None:
                advice = "give its sha256"
                raise self._failed("does not say how long it is, so that a break looks like its end", advice)
            self._refuse_large(total or 0)
            self._part.begin(_validators(response, total, total))

    def _take_range(self, response: httpx.Response) -> None:
        part, file = self._part, self._file
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        offset = file.first_byte + part.size
        if found is None or int(found[1]) != offset or int(found[2]) < offset:
            self._begin_anew_or(response, "sends other bytes than those it was asked for")
            return
        complete = None if found[3] == "*" else int(found[3])
        end = int(found[2]) + 1 if complete is None else complete
        if file.last_byte is not None:
            end = min(end, file.last_byte + 1)
        total = end - file.first_byte
        self._refuse_large(total)
        now = _validators(response, total, complete)
        if not part.size:
            part.begin(now)
        elif (now.etag, now.total, now.complete) != _comparable(part.validators, now):
            self._begin_anew_or(response, "has changed meanwhile")

    def _begin_anew_or(self, response: httpx.Response, problem: str) -> None:
        """Where something is there already it is of no use any more; without it, there is no other way."""
        passing = self._part.size > 0
        if passing:
            self._part.begin(Validators())
        raise self._failed(problem, passing=passing)

    def _refuse_large(self, size: int) -> None:
        if size > self._max_bytes:
            problem = f"has more than the {self._max_bytes:,} bytes allowed"
            raise DownloadRefused(self._file.file_name, problem, "allow more with max_bytes")

    def _failed(
        self, problem: str, advice: str = "compare the address, then retry", *, passing: bool = False
    ) -> RequestFailed:
        return RequestFailed(self._shown, problem, advice, passing=passing)


def _validators(response: httpx.Response, total: int | None, complete: int | None) -> Validators:
    etag = response.headers.get("etag")
    if etag is not None and not re.fullmatch(r'"[!#-~\x80-\xff]*"', etag):
        etag = None  # a weak one says that the meaning is the same, not that the bytes are
    modified = response.headers.get("last-modified")
    strong = modified if _is_strong(modified, response.headers.get("date")) else None
    return Validators(etag, strong, total, complete)


def _comparable(known: Validators, now: Validators) -> tuple[str | None, int | None, int | None]:
    """What is known, as far as the answer says something about it."""
    return (
        known.etag if now.etag is not None else None,
        known.total if now.complete is not None else now.total,
        known.complete if now.complete is not None else None,
    )


def _is_strong(modified: str | None, date: str | None) -> bool:
    """Whether a file of this time cannot have been changed again in the same second."""
    if modified is None or date is None:
        return False
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds() >= 1
    except (ValueError, TypeError):  # no dates; or one with a time zone and one without
        return False


def _fraction(part: PartFile) -> float:
    total = part.validators.total
    return part.size / total if total else 0.0


def _amounts(part: PartFile) -> str:
    total = part.validators.total
    of = "" if total is None else f" of {total / 1e6:,.1f}"
    return f"{part.size / 1e6:,.1f}{of} MB"
