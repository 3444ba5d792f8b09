"""Cancel requests in a folder; see `ebbtide.jobs.requests`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.plain.requests import CancelRequests
from ebbtide.jobs.requestfiles import FiledRequest
from ebbtide.jobs.requests import Requests
from ebbtide.jobs.signals import Signal
from ebbtide.jobs.signals.file import FileSignal

__all__ = ["FileRequests"]


class FileRequests(CancelRequests):
    """For programs of one user on one machine.

    Args:
        folder: this user's alone; None: the one of the option `signal_folder`.
    """

    def __init__(self, folder: str | None) -> None:
        self._requests = Requests(folder)

    def request(self, uuid: str, reason: str = "", who: str | None = None) -> FiledRequest:
        with _translated():
            return self._requests.request(uuid, reason, who)

    def check(self, uuid: str) -> FiledRequest | None:
        with _translated():
            return self._requests.check(uuid)

    def answer(self, request: FiledRequest, answer: str) -> None:
        with _translated():
            self._requests.mark_processed(request.job_id, answer, only=request)

    def open_signal(self) -> Signal:
        return FileSignal(self._requests.folder)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(str(error)) from error
