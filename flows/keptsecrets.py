"""The text of a secret, from where it is kept."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

from ebbtide.flows.secret import Secret

__all__ = ["SecretUnusable", "kept_text"]

_MAX_BYTES = 64 * 1024


class SecretUnusable(Exception):
    """Why a secret cannot be used, in words that go after "cannot be used:".

    Args:
        why: that alone.
        advice: what to do about it, where a conductor has looked for the secret of a job.
        anywhere: `why`, where anybody may have looked.
    """

    def __init__(self, why: str, advice: str = "", *, anywhere: str | None = None) -> None:
        super().__init__(f"{why}; {advice}" if advice else why)
        self.why = anywhere or why


def kept_text(secret: Secret, environ: Mapping[str, str] = os.environ) -> str:
    """The plain text that is kept there now, without the end of its line.

    Raises:
        SecretUnusable: there is none.
    """
    if secret.variable is not None:
        return _text_of_variable(secret.variable, environ)
    return _text_of_file(str(secret.path))


def _text_of_variable(name: str, environ: Mapping[str, str]) -> str:
    try:
        text = environ[name]
        text.encode()
    except KeyError:
        why = "the conductor was started without it"
        raise SecretUnusable(why, "set it there and try again", anywhere="it is not set") from None
    except UnicodeEncodeError:
        raise SecretUnusable("it is no UTF-8 text", "mend it and try again") from None
    return text


def _text_of_file(path: str) -> str:
    try:
        # A pipe would block, a terminal become ours, and a link lead to what somebody else has chosen.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else (error.strerror or "").lower()
        raise SecretUnusable(why, "mend that where the conductor runs and try again") from None
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> str:
    status = os.fstat(descriptor)
    # A file of /proc says that it has no bytes: a process's environment is not to be had through one.
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        raise SecretUnusable(
            "it is no regular file with something in it", "name another and post the job again"
        )
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise SecretUnusable("it has more than 64 KiB", "name another file and post the job again")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretUnusable("it is no UTF-8 text", "name another file and post the job again") from None
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
