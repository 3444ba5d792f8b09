"""What a conductor does with cancel requests that are files: each is recorded in the ledger, and answered."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from ebbtide.config import Settings
from ebbtide.errors import FolderRefused, JobNotFound, StoreUnavailable, TooLate
from ebbtide.jobs.folders import closed_folder
from ebbtide.jobs.ledger import ACCEPTED, Ledger
from ebbtide.jobs.requestfiles import PENDING, FiledRequest, Refused, names_job, read_request
from ebbtide.jobs.requests import Requests
from ebbtide.jobs.signals import Signal
from ebbtide.jobs.signals.file import FileSignal
from ebbtide.jobs.store import Store
from ebbtide.wording import one_line

__all__ = ["Inbox", "open_inbox"]

LOG = logging.getLogger(__name__)

_TIDY_SECONDS = 10.0
# Who writes in place is not interrupted in the middle: what is refused may be complete a moment later.
_WRITING_SECONDS = 1.0
# Somebody else's store may know the job: its conductor takes the request before we say that nobody does.
_UNKNOWN_SECONDS = 30.0
# A request that failed while others did not, by a locked row say, lets the others go first.
_FAILED_SECONDS = 3.0
_MOST_AT_ONCE = 50
_LONGEST_TOLD = 120

_Mark = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Rest:
    """Why a pending request is left alone for a while."""

    file: tuple[int, int]  # which it is: another one under its name does not rest
    until: float  # monotonic
    unknown: bool = False


class Inbox:
    """The requests in one folder. For one thread; several conductors may share the folder.

    Args:
        requests: the folder.
        ledger: where they are recorded, whichever conductor runs the job, or none.
        signal: is rung for each, so that the one that runs it looks; says whether the folder has changed.
        keep_seconds: how long a processed request stays there to be read.
        sweep_seconds: after so long the folder is read whatever the signal says.
    """

    def __init__(
        self,
        requests: Requests,
        ledger: Ledger,
        signal: FileSignal,
        *,
        keep_seconds: float,
        sweep_seconds: float = 1.0,
    ) -> None:
        self._requests = requests
        self._ledger = ledger
        self._signal = signal
        self._keep_seconds = keep_seconds
        self._sweep_seconds = sweep_seconds
        self._settled: dict[str, _Mark] = {}  # what was processed, or refused and logged, as it was then
        self._files: dict[str, tuple[int, int]] = {}  # the pending ones at the last look, and which they are
        self._resting: dict[str, _Rest] = {}
        self._more = False  # than one pass records; it goes on without looking at the signal
        self._next_look = 0.0
        self._next_tidying = 0.0
        self._broken = False  # and logged

    def record(self) -> bool:
        """Record what is pending, some at once. Reads the folder only when something came, or for the sweep.

        Returns whether to come again now: something was recorded, which is to be forwarded, or there is more.

        What goes wrong with the folder is logged, once; what goes wrong with one request is its answer.

        Raises:
            StoreUnavailable: what is not recorded is pending again, or will be half a minute later where the
                folder did not let it be put back.
        """
        now = time.monotonic()
        if not (self._signal.appeared() or self._more or now >= self._next_look):
            return False
        self._next_look = now + self._sweep_seconds
        self._more = False
        recorded = 0
        try:
            recorded = self._record_some()
            self._tidy()
        except (FolderRefused, OSError) as error:
            if not self._broken:
                LOG.error("requests.unreadable: %s", one_line(str(error)))
            self._broken = True
        else:
            self._broken = False
        return self._more or recorded > 0

    def _record_some(self) -> int:
        """Returns how many."""
        recorded = 0
        failed = False
        due = self._due()
        self._more = len(due) > _MOST_AT_ONCE
        for name in due[:_MOST_AT_ONCE]:
            job_id = name.removesuffix(".json")
            rest = self._resting.get(name)
            # Before it is taken: the conductor of another store finds it there.
            if not self._ledger.knows(job_id) and (rest is None or not rest.unknown):
                self._rest(name, _UNKNOWN_SECONDS, unknown=True)
                continue
            taken = self._requests.take(job_id)
            if taken is None:
                continue
            try:
                self._record(taken)
            except StoreUnavailable as error:
                self._rest(name, _FAILED_SECONDS)
                if failed:
                    raise  # two in a row: it is the store
                failed = True
                LOG.warning("requests.not_recorded %s, tried again: %s", job_id, error)
            else:
                recorded += 1
                failed = False
        return recorded

    def _record(self, taken: FiledRequest) -> None:
        try:
            answer = self._answer(taken)
        except StoreUnavailable:
            try:
                self._requests.put_back(taken)
            except (FolderRefused, OSError) as error:
                LOG.warning("requests.not_put_back %s: %s", taken.job_id, one_line(str(error)))
            raise
        self._requests.answer(taken, answer)

    def _answer(self, taken: FiledRequest) -> str:
        try:
            answer = self._ledger.cancel(
                taken.job_id, reason=taken.reason, who=taken.who, source="file", asked_at=taken.written_at
            )
        except TooLate as error:
            return f"too late: {error.state}"
        except JobNotFound:
            return "unknown job"
        except StoreUnavailable:
            raise
        except Exception as error:  # a fault of ours, or a row that cannot be: the next one is recorded
            LOG.exception("requests.failed %s", taken.job_id)
            return f"cannot be recorded: {one_line(str(error) or type(error).__name__, _LONGEST_TOLD)}"
        if answer == ACCEPTED:
            LOG.info("job.cancel_requested %s by %s in a file", taken.job_id, taken.who)
        self._signal.ring(taken.job_id)
        return answer

    def _rest(self, name: str, seconds: float, *, unknown: bool = False) -> None:
        self._resting[name] = _Rest(self._files[name], time.monotonic() + seconds, unknown)

    def _due(self) -> list[str]:
        """The pending requests, but for those that rest."""
        self._look()
        now = time.monotonic()
        resting = {}
        due = []
        for name, file in self._files.items():
            rest = self._resting.get(name)
            if rest is not None and rest.file == file:
                resting[name] = rest
            if name not in resting or now >= resting[name].until:
                due.append(name)
        self._resting = resting
        return due

    def _look(self) -> None:
        """Find the pending requests. Whatever else is there is read once."""
        files = {}
        settled = {}
        with closed_folder(self._requests.folder) as folder, os.scandir(folder) as listing:
            for entry in listing:
                if entry.name.startswith("."):
                    continue  # the bell, and what is being worked with
                try:
                    found = entry.stat(follow_symlinks=False)
                    mark = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
                    if self._settled.get(entry.name) != mark and _is_pending(folder, entry.name):
                        # Neither changes when it is taken and put back.
                        files[entry.name] = (found.st_ino, found.st_mtime_ns)
                        continue
                except FileNotFoundError:
                    continue
                except Refused as error:
                    now = time.time()
                    # Or moved, or between its two names: those are told by the second time.
                    if min(abs(now - found.st_mtime), abs(now - found.st_ctime)) < _WRITING_SECONDS:
                        continue
                    where = f"{one_line(entry.name, 80)} in {self._requests.folder}"
                    LOG.warning("requests.refused %s: %s", where, error)
                settled[entry.name] = mark
        self._settled = settled
        self._files = files

    def _tidy(self) -> None:
        now = time.monotonic()
        if now >= self._next_tidying:
            self._next_tidying = now + _TIDY_SECONDS
            self._requests.clean_up(self._keep_seconds, pending_too=False)


def open_inbox(store: Store, settings: Settings, signal: Signal) -> Inbox | None:
    """The folder of requests that belongs to the signal `file`; None with any other."""
    if not isinstance(signal, FileSignal):
        return None
    return Inbox(
        Requests(signal.folder),
        Ledger(store),
        signal,
        keep_seconds=settings.signal_keep_seconds,
        sweep_seconds=settings.sweep_seconds,
    )


def _is_pending(folder: int, name: str) -> bool:
    if not names_job(name):
        raise Refused("its name is not the id of a job with .json after it")
    return read_request(folder, name, name.removesuffix(".json")).status == PENDING
