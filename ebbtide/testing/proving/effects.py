"""The effect log: what the bodies of tasks did, written around them and past everything that we record."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.tasks import INTERRUPTED, CancelableTask, payload
from ebbtide.tasks.wrapping import set_witness

__all__ = ["Effect", "EffectLog", "read_effects"]

BEGIN, END, RAISED, CANCEL = "begin", "end", "raised", "cancel"
EXECUTE, REVERT = "execute", "revert"
#: Answers to a cancel.
ACCEPTED, TOO_LATE = "accepted", "too late"


@dataclass(frozen=True)
class Effect:
    """One line of the log.

    Attributes:
        what: a body began, ended or raised; or a cancel was answered.
        value: of the end of an execute a digest of its result, of the begin of a revert one of what it was
            given as such, where it takes it; of a cancel the answer.
        passed: of a cancel the tasks, with their rounds, that were stored as begun when it was answered.
    """

    what: str
    verb: str = ""
    task: str = ""
    job: str = ""
    attempt: int = 0
    epoch: int = 0
    value: str | None = None
    passed: Sequence[Sequence[Any]] = ()


class EffectLog:
    """Appends lines, each by one write at the file's end, so that no two mix and none is lost by a kill."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, effect: Effect) -> None:
        line = (json.dumps(vars(effect)) + "\n").encode()
        if os.write(self._file, line) != len(line):
            raise OSError("a line of the effect log was cut")

    def witness(self) -> None:
        """From now on every body that runs in this process is written down."""
        set_witness(self._around)

    @contextlib.contextmanager
    def _around(
        self, verb: str, task: CancelableTask, arguments: Mapping[str, Any]
    ) -> Iterator[Callable[[Any], None]]:
        given = arguments.get("result")
        known = _digest(given) if verb == REVERT and "result" in arguments else None
        self._note(BEGIN, verb, task, known)
        results: list[Any] = []
        try:
            yield results.append
        except BaseException as error:
            self._note(RAISED, verb, task, type(error).__name__)
            raise
        self._note(END, verb, task, _digest(results[0]) if verb == EXECUTE else None)

    def _note(self, what: str, verb: str, task: CancelableTask, value: str | None) -> None:
        job = task.job
        self.write(Effect(what, verb, task.name, job.id, job.attempt, job.epoch, value))


def read_effects(path: Path) -> list[Effect]:
    """The lines in their order; none when nothing was written."""
    try:
        return [Effect(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []


def _digest(value: Any) -> str:
    """The same for the same JSON. Never the value itself, which may be large, or a secret."""
    if value is INTERRUPTED:
        return repr(INTERRUPTED)
    try:
        text = payload.encode(value, "a result")
    except payload.PayloadError:
        return "not storable"
    same = json.dumps(json.loads(text), sort_keys=True)
    return hashlib.sha256(same.encode()).hexdigest()[:16]
