"""One file with a cancel request: its name, its content, and what of either is refused."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import pwd
import stat
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from ebbtide.errors import UsageError
from ebbtide.jobs.texts import MAX_REASON, MAX_WHO, checked_text
from ebbtide.wording import one_line

__all__ = [
    "MAX_BYTES",
    "PENDING",
    "PROCESSED",
    "FiledRequest",
    "Refused",
    "checked_job_id",
    "encode",
    "encode_asked",
    "fitted",
    "name_of",
    "names_job",
    "read_request",
]

MAX_BYTES = 4096
# What an answer adds to a request, with some to spare for its words.
_ANSWER_BYTES = 256
PENDING = "pending"
PROCESSED = "processed"
_SUFFIX = ".json"
# A FIFO must not hold the reader up, a link lead nowhere, a terminal not become ours.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Refused(Exception):
    """What stands there is no request; the message says why."""


@dataclass(frozen=True)
class FiledRequest:
    """A cancel request that is, or was, in a file.

    `status` is ``pending`` or ``processed``; `answer` says what became of a processed one: ``accepted``,
    ``already requested``, ``too late: ...``, ``unknown job`` or ``cannot be recorded: ...``. Times are unix
    seconds.
    """

    job_id: str
    status: str
    reason: str
    who: str
    requested_at: float
    processed_at: float | None = None
    answer: str | None = None
    #: The name it has while somebody works with it.
    taken_as: str | None = None
    #: When the file was written; `requested_at` is what the writer says.
    written_at: float | None = field(default=None, compare=False)


def name_of(job_id: str) -> str:
    """The file name of the request for a job."""
    return job_id + _SUFFIX


def names_job(name: str) -> bool:
    """Whether a file of this name would be a request: it is the id of a job, as jobs have it."""
    with contextlib.suppress(ValueError):
        return name.endswith(_SUFFIX) and name == name_of(str(uuid.UUID(name.removesuffix(_SUFFIX))))
    return False


def checked_job_id(job_id: str) -> str:
    """The id, which becomes the name of a file. Raises UsageError when it is not a whole one."""
    if not isinstance(job_id, str) or not names_job(name_of(job_id)):
        raise UsageError(f"{one_line(repr(job_id), 60)} is not the whole id of a job")
    return job_id


def encode(request: FiledRequest) -> bytes:
    """The content of its file."""
    told: dict[str, Any] = {
        "job": request.job_id,
        "status": request.status,
        "reason": request.reason,
        "who": request.who,
        "requested_at": request.requested_at,
    }
    if request.status == PROCESSED:
        told |= {"processed_at": request.processed_at, "answer": request.answer}
    return (json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode()


def encode_asked(request: FiledRequest) -> bytes:
    """The same for a new request. Raises UsageError when there is no room in the file for an answer."""
    data = encode(request)
    most = MAX_BYTES - _ANSWER_BYTES
    if len(data) > most:
        raise UsageError(f"the request has {len(data)} bytes; {most} are allowed: shorten the reason")
    return data


def fitted(answered: FiledRequest) -> FiledRequest:
    """The request with as much of its texts as the file has room for; the ledger has them whole."""
    for name in ("reason", "who", "answer"):
        over = len(encode(answered)) - MAX_BYTES
        if over > 0:
            text = getattr(answered, name) or ""
            shorter: dict[str, Any] = {name: text[: max(0, len(text) - over)].rstrip()}
            answered = replace(answered, **shorter)
    return answered


def read_request(folder: int, name: str, job_id: str) -> FiledRequest:
    """The request in that file of the folder.

    Raises:
        Refused: it is none, or not to be trusted.
        FileNotFoundError: there is no such file.
    """
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        words = {errno.ELOOP: "it is a symbolic link", errno.ENXIO: "it is no regular file"}
        raise Refused(words.get(error.errno or 0, f"it cannot be opened: {error.strerror}")) from error
    try:
        found = os.fstat(descriptor)
        _refuse_foreign(found)
        data = b""
        while len(data) <= MAX_BYTES and (more := os.read(descriptor, MAX_BYTES + 1 - len(data))):
            data += more
    finally:
        os.close(descriptor)
    return _decode(data, job_id, found)


def _refuse_foreign(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Refused("it is no regular file")
    if found.st_uid != os.geteuid():
        raise Refused(f"it belongs to user {found.st_uid}")
    if found.st_size > MAX_BYTES:
        raise Refused(f"it has {found.st_size} bytes; {MAX_BYTES} are allowed")


def _decode(data: bytes, job_id: str, found: os.stat_result) -> FiledRequest:
    if len(data) > MAX_BYTES:
        raise Refused(f"it has more than {MAX_BYTES} bytes")
    try:
        told = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused("it is not JSON") from error
    if not isinstance(told, dict):
        raise Refused("it is JSON, but no object")
    status = told.get("status")
    if status not in (PENDING, PROCESSED):
        raise Refused(f'its status is neither "{PENDING}" nor "{PROCESSED}"')
    if told.get("job", job_id) != job_id:
        raise Refused("it names another job inside than outside")
    if status == PENDING and found.st_nlink > 1:
        raise Refused("it has a second name")  # of whom is not to be seen
    try:
        return FiledRequest(
            job_id=job_id,
            status=status,
            reason=checked_text(told.get("reason", ""), "the reason", MAX_REASON),
            who=checked_text(told.get("who", ""), "who asks", MAX_WHO) or _owner(found.st_uid),
            requested_at=_moment(told.get("requested_at")) or found.st_mtime,
            processed_at=_moment(told.get("processed_at")),
            answer=checked_text(told.get("answer") or "", "the answer", MAX_REASON) or None,
            written_at=found.st_mtime,
        )
    except UsageError as error:
        raise Refused(str(error)) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _moment(value: object) -> float | None:
    """Unix seconds, where it is a number at all: a time that somebody gives is told, never relied on."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    with contextlib.suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None


def _owner(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
