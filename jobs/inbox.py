"""What a conductor does with cancel requests that are files: each is recorded in the ledger, and answered."""

from __future__ import annotations

import logging
import os
import time

from ebbtide.config import Settings
from ebbtide.errors import FolderRefused, JobNotFound, TooLate
from ebbtide.jobs.folders import closed_folder
from ebbtide.jobs.ledger import ACCEPTED, Ledger
from ebbtide.jobs.requestfiles import PENDING, FiledRequest, Refused, names_job, read_request
from ebbtide.jobs.requests import Requests
from ebbtide.jobs.signals import Signal
from ebbtide.jobs.store import Store
from ebbtide.wording import one_line

__all__ = ["Inbox", "open_inbox"]

LOG = logging.getLogger(__name__)

_TIDY_SECONDS = 10.0
# Who writes in place is not interrupted in the middle: what is refused may be complete a moment later.
_WRITING_SECONDS = 1.0

_Mark = tuple[int, int, int, int]


class Inbox:
    """The requests in one folder. For one thread; several conductors may share the folder.

    Args:
        requests: the folder.
        ledger: where they are recorded, whichever conductor runs the job, or none.
        signal: is rung for each, so that the one that runs it looks.
        keep_seconds: how long a processed request stays there to be read.
    """

    def __init__(self, requests: Requests, ledger: Ledger, signal: Signal, *, keep_seconds: float) -> None:
        self._requests = requests
        self._ledger = ledger
        self._signal = signal
        self._keep_seconds = keep_seconds
        self._settled: dict[str, _Mark] = {}  # what was processed, or refused and logged, as it was then
        self._next_tidying = 0.0
        self._broken = False  # and logged

    def record(self) -> None:
        """Record what is pending. What goes wrong with the folder is logged, once.

        Raises:
            StoreUnavailable: the request that was being recorded is pending again.
        """
        try:
            for job_id in self._pending():
                taken = self._requests.take(job_id)
                if taken is not None:
                    self._record(taken)
            self._tidy()
        except (FolderRefused, OSError) as error:
            if not self._broken:
                LOG.error("requests.unreadable: %s", one_line(str(error)))
            self._broken = True
        else:
            self._broken = False

    def _record(self, taken: FiledRequest) -> None:
        try:
            answer = self._answer(taken)
        except BaseException:
            self._requests.put_back(taken)
            raise
        self._requests.answer(taken, answer)

    def _answer(self, taken: FiledRequest) -> str:
        try:
            answer = self._ledger.cancel(taken.job_id, reason=taken.reason, who=taken.who, source="file")
        except TooLate as error:
            return f"too late: {error.state}"
        except JobNotFound:
            return "unknown job"
        if answer == ACCEPTED:
            LOG.info("job.cancel_requested %s by %s in a file", taken.job_id, taken.who)
        self._signal.ring(taken.job_id)
        return answer

    def _pending(self) -> list[str]:
        """The jobs of the pending requests. Whatever else is there is read once."""
        jobs = []
        settled = {}
        with closed_folder(self._requests.folder) as folder, os.scandir(folder) as listing:
            for entry in listing:
                if entry.name.startswith("."):
                    continue  # the bell, and what is being worked with
                try:
                    found = entry.stat(follow_symlinks=False)
                    mark = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
                    if self._settled.get(entry.name) != mark and _is_pending(folder, entry.name):
                        jobs.append(entry.name.removesuffix(".json"))
                        continue
                except FileNotFoundError:
                    continue
                except Refused as error:
                    if abs(time.time() - found.st_mtime) < _WRITING_SECONDS:
                        continue
                    where = f"{one_line(entry.name, 80)} in {self._requests.folder}"
                    LOG.warning("requests.refused %s: %s", where, error)
                settled[entry.name] = mark
        self._settled = settled
        return jobs

    def _tidy(self) -> None:
        now = time.monotonic()
        if now >= self._next_tidying:
            self._next_tidying = now + _TIDY_SECONDS
            self._requests.put_back_orphaned()
            self._requests.clean_up(self._keep_seconds)


def open_inbox(store: Store, settings: Settings, signal: Signal) -> Inbox | None:
    """The folder of requests that belongs to the signal `file`; None with any other."""
    if settings.signal != "file":
        return None
    requests = Requests(settings.signal_folder)
    return Inbox(requests, Ledger(store), signal, keep_seconds=settings.signal_keep_seconds)


def _is_pending(folder: int, name: str) -> bool:
    if not names_job(name):
        raise Refused("its name is not the id of a job with .json after it")
    return read_request(folder, name, name.removesuffix(".json")).status == PENDING
