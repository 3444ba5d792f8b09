"""Finding the secrets of a job where its parameters say that they are kept. Done in its runner only."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.conductor.redaction import SHORTEST, Redactor
from ebbtide.flows import Secret
from ebbtide.tasks.run import Missing

__all__ = ["Resolved", "resolve"]

_MAX_BYTES = 64 * 1024


class _Unusable(Exception):
    """Why a secret cannot be used, in words that go after "cannot be used:"."""


@dataclass(frozen=True)
class Resolved:
    """The values for a run's store, its secrets found.

    Attributes:
        values: by name; for a Secret its plain text, or a `Missing` that says why there is none.
        redactor: knows the secrets that were found.
        problem: one line about those that were not; None when all were.
    """

    values: dict[str, Any]
    redactor: Redactor
    problem: str | None


def resolve(values: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Resolved:
    """Replace each Secret in `values` by the plain text that is kept there now."""
    found: dict[str, str] = {}
    plain = dict(values)
    problems: list[str] = []
    for name, value in values.items():
        if not isinstance(value, Secret):
            continue
        try:
            plain[name] = found[value.reference] = _text_of(value, environ)
        except _Unusable as error:
            problem = f"the secret {value.reference} of parameter '{name}' cannot be used: {error}"
            plain[name] = Missing(problem)
            problems.append(problem)
    return Resolved(plain, Redactor(found), "; ".join(problems) or None)


def _text_of(secret: Secret, environ: Mapping[str, str]) -> str:
    if secret.variable is not None:
        text = _text_of_variable(secret.variable, environ)
    else:
        text = _text_of_file(str(secret.path))
    if len(text) < SHORTEST:
        raise _Unusable(f"it has fewer than {SHORTEST} characters, too few to keep them out of logs")
    return text


def _text_of_variable(name: str, environ: Mapping[str, str]) -> str:
    try:
        text = environ[name]
        text.encode()
    except KeyError:
        raise _Unusable("the conductor was started without it; set it there and try again") from None
    except UnicodeEncodeError:
        raise _Unusable("it is no UTF-8 text; mend it and try again") from None
    return text


def _text_of_file(path: str) -> str:
    try:
        # A pipe would block, a terminal become ours, and a link lead to what somebody else has chosen.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else (error.strerror or "").lower()
        raise _Unusable(f"{why}; mend that where the conductor runs and try again") from None
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> str:
    status = os.fstat(descriptor)
    # A file of /proc says that it has no bytes: a process's environment is not to be had through one.
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        raise _Unusable("it is no regular file with something in it; name another and post the job again")
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise _Unusable("it has more than 64 KiB; name another file and post the job again")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _Unusable("it is no UTF-8 text; name another file and post the job again") from None
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
