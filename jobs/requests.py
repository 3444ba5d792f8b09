"""Cancel requests as files, for programs that know nothing of the store: one JSON file for each job.

Any program of the same user may write ``JOB.json`` into the folder, best beside it and then moved there. A
conductor with ``signal = file`` records the request in the ledger and writes the answer into the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ebbtide.config import load_settings
from ebbtide.errors import UsageError
from ebbtide.jobs.folders import closed_folder
from ebbtide.jobs.requestfiles import (
    PENDING,
    PROCESSED,
    FiledRequest,
    Refused,
    checked_job_id,
    encode,
    encode_asked,
    fitted,
    name_of,
    names_job,
    read_request,
)
from ebbtide.jobs.texts import MAX_REASON, MAX_WHO, checked_text, whoami

__all__ = ["FiledRequest", "Requests"]

LOG = logging.getLogger(__name__)

# After so long nobody is at work any more with a request that was taken.
_TAKEN_SECONDS = 30.0
_TAKEN, _UNFINISHED = ".taken", ".tmp"
# How often a request is looked for that moves between two names meanwhile.
_LOOKS = 10


class Requests:
    """The folder of cancel requests. Safe to use from several threads and processes at once.

        requests = Requests()
        requests.request(job.id, reason="wrong folder")
        requests.check(job.id).answer      # None until a conductor has recorded it

    Args:
        folder: where they are; default: the option `signal_folder`, which TASK_CANCELLATION_DIR names too. It
            is made when it is not there, for its owner alone.

    Every method that comes to the folder raises `FolderRefused` when that is not this user's alone, and
    OSError when the disk fails; one that is given a wrong id or text raises UsageError before that.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder or load_settings().signal_folder

    def request(self, job_id: str, reason: str = "", who: str | None = None) -> FiledRequest:
        """Ask for a job to be cancelled; the request is on disk when this returns.

        It is recorded once a conductor sees it, and `check` tells the answer then. While a request is
        pending, asking again changes nothing and returns it; a processed one is replaced, and so is what is
        no request.

        Raises:
            UsageError: the job's id is not a whole one, a text cannot be stored, or a folder stands there.
        """
        asked = FiledRequest(
            job_id=checked_job_id(job_id),
            status=PENDING,
            reason=checked_text(reason, "the reason", MAX_REASON),
            who=(whoami() if who is None else checked_text(who, "who asks", MAX_WHO)) or whoami(),
            requested_at=time.time(),
        )
        with closed_folder(self.folder) as folder:
            with contextlib.suppress(Refused):
                present = _present(folder, asked.job_id)
                if present is not None and present.status == PENDING:
                    return present
            with _written(folder, encode_asked(asked), durable=True) as unfinished:
                _replace(folder, unfinished, name_of(asked.job_id), self.folder)
            os.fsync(folder)
        return asked

    def request_many(
        self, job_ids: Iterable[str], reason: str = "", who: str | None = None
    ) -> list[FiledRequest]:
        """`request` for each of these jobs; nothing is written when one of the ids is wrong."""
        checked = [checked_job_id(job_id) for job_id in job_ids]
        return [self.request(job_id, reason, who) for job_id in checked]

    def check(self, job_id: str) -> FiledRequest | None:
        """The request for this job, pending or processed. None: there is none, or it is expired.

        Raises:
            UsageError: the job's id is not a whole one, or what stands there is no request.
        """
        with closed_folder(self.folder) as folder:
            try:
                return _present(folder, checked_job_id(job_id))
            except Refused as error:
                raise UsageError(f"{name_of(job_id)} in {self.folder} is no request: {error}") from error

    def mark_processed(
        self, job_id: str, answer: str, *, only: FiledRequest | None = None
    ) -> FiledRequest | None:
        """For programs that act on requests themselves: take the pending one and write what became of it.

        Returns it as it is now. None: there is no pending one, or somebody else was quicker.

        Args:
            only: the request that is answered, as `check` has returned it; one that came since stays pending.

        Raises:
            UsageError: the job's id is not a whole one, or the answer cannot be stored.
        """
        told = checked_text(answer, "the answer", MAX_REASON)
        taken = self.take(job_id)
        if taken is None:
            return None
        if only is not None and replace(taken, taken_as=None) != only:
            self.put_back(taken)
            return None
        try:
            return self.answer(taken, told)
        except BaseException:
            self.put_back(taken)
            raise

    def clean_up(self, older_than_seconds: float, *, pending_too: bool = True) -> int:
        """Remove what was written longer ago, whatever it is, and what was left unfinished; how many files.

        What belongs to another user stays: nobody but an administrator can have put it there. A pending
        request that somebody has taken stays as well; one that was taken and left is put back.

        Args:
            pending_too: remove requests that nobody has answered; without it they stay until somebody does.
        """
        before = time.time() - older_than_seconds
        removed = 0
        with closed_folder(self.folder) as folder, os.scandir(folder) as listing:
            for entry in listing:
                kept = not (names_job(entry.name) or entry.name.endswith((_TAKEN, _UNFINISHED)))
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    # The later one: what is moved here may have been written long before.
                    since = max(found.st_mtime, found.st_ctime)
                    if kept or since > before or found.st_uid != os.geteuid():
                        continue
                    stays = entry.name.endswith(_TAKEN) or not pending_too
                    if entry.is_dir(follow_symlinks=False) or (stays and _is_pending(folder, entry.name)):
                        continue
                    os.unlink(entry.name, dir_fd=folder)
                    removed += 1
        self.put_back_orphaned()
        return removed

    # For those who act on requests.

    def take(self, job_id: str) -> FiledRequest | None:
        """Take a pending request, so that nobody else does. `answer` or `put_back` has to follow.

        Whoever dies in between leaves it to the next one, half a minute later. None: there is none to take.
        """
        checked_job_id(job_id)
        with closed_folder(self.folder) as folder:
            if not _is_pending(folder, name_of(job_id)):
                return None
            taken = f".{job_id}.{secrets.token_hex(8)}{_TAKEN}"
            try:
                # What is written under the name from now on is another request.
                os.rename(name_of(job_id), taken, src_dir_fd=folder, dst_dir_fd=folder)
                request = replace(read_request(folder, taken, job_id), taken_as=taken)
            except FileNotFoundError:
                return None
            except Refused:
                request = None
            if request is None or request.status != PENDING:
                _publish(folder, taken, job_id)
                return None
            return request

    def answer(self, taken: FiledRequest, answer: str) -> FiledRequest:
        """Write what became of a request that was taken; its texts are cut where the file has no room."""
        processed_at = time.time()
        answered = fitted(
            replace(taken, status=PROCESSED, answer=answer, processed_at=processed_at, taken_as=None)
        )
        with closed_folder(self.folder) as folder:
            with _written(folder, encode(answered), durable=False) as unfinished:
                _publish(folder, unfinished, taken.job_id)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(taken.taken_as or "", dir_fd=folder)
        return answered

    def put_back(self, taken: FiledRequest) -> None:
        """Let a request that was taken be pending again, unless there is a newer one."""
        try:
            with closed_folder(self.folder) as folder:
                _publish(folder, taken.taken_as or "", taken.job_id)
        except FileNotFoundError:
            LOG.warning("requests.gone %s: it was taken, and somebody has removed it since", taken.job_id)

    def put_back_orphaned(self) -> None:
        """Put back what was taken half a minute ago or longer: whoever took it is at work no more.

        That it is dead is not looked for; one that is only slow finds its request taken by another. What
        cannot be put back is raised once all the others are.
        """
        before = time.time() - _TAKEN_SECONDS
        failed: OSError | None = None
        with closed_folder(self.folder) as folder, os.scandir(folder) as listing:
            for entry in listing:
                job_id = entry.name[1:37]
                if entry.name.endswith(_TAKEN) and names_job(name_of(job_id)):
                    try:
                        # The time of the rename; that of the content is the writer's.
                        since = entry.stat(follow_symlinks=False).st_ctime
                        if since < before and not entry.is_dir(follow_symlinks=False):
                            _publish(folder, entry.name, job_id)
                    except FileNotFoundError:
                        pass  # another one was quicker
                    except OSError as error:
                        failed = error
        if failed is not None:
            raise failed


def _is_pending(folder: int, name: str) -> bool:
    """Whether the file of that name is a pending request, under its own name or a taken one."""
    job_id = name[1:37] if name.startswith(".") else name.removesuffix(".json")
    try:
        return read_request(folder, name, job_id).status == PENDING
    except (Refused, FileNotFoundError):
        return False


def _replace(folder: int, unfinished: str, name: str, path: str) -> None:
    try:
        os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError as error:
        raise UsageError(f"{name} in {path} is a folder: remove it") from error


def _present(folder: int, job_id: str) -> FiledRequest | None:
    """The request for a job, wherever it is: it may be taken, or put back, between two looks."""
    own = name_of(job_id)
    for _ in range(_LOOKS):
        with contextlib.suppress(FileNotFoundError):
            return read_request(folder, own, job_id)
        there = [
            name
            for name in os.listdir(folder)
            if name == own or (name.startswith(f".{job_id}.") and name.endswith(_TAKEN))
        ]
        for name in there:
            with contextlib.suppress(FileNotFoundError):
                return read_request(folder, name, job_id)
        if not there:
            break  # else it has moved since
    return None


@contextlib.contextmanager
def _written(folder: int, data: bytes, *, durable: bool) -> Iterator[str]:
    """The name of a new file with this content; it is gone after the block, or has another name.

    Args:
        durable: wait until it is on disk. An answer need not be: the ledger has it.
    """
    name = f".{secrets.token_hex(8)}{_UNFINISHED}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            if durable:
                os.fsync(descriptor)
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _publish(folder: int, name: str, job_id: str) -> None:
    """Give the file the name of the job's request, unless a newer request has it already."""
    with contextlib.suppress(FileExistsError):
        os.link(name, name_of(job_id), src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(name, dir_fd=folder)
