"""What clients were told: each call as invoke, then ok, fail or unknown, in an append-only file.

Times are seconds of the machine's monotonic clock, which all its processes share: that of an invoke was
taken before the call, that of an answer after it.
"""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ebbtide.errors import AnswerLost, CommitUnknown, EdgeRefused, JobNotFound, StoreUnavailable, TooLate

Told = Literal["ok", "fail", "unknown"]


@dataclass(frozen=True)
class Call:
    """One call of a client. `unknown`: it may have done what it was to do, or not, or may do so later."""

    client: str
    op: str
    args: dict[str, Any]
    invoked: float
    told: Told = "unknown"
    answered: float | None = None
    answer: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.invoked:.3f} {self.client} {self.op} {self.args}: {self.told} {self.answer}"


@dataclass(frozen=True)
class History:
    """All calls, in order of their beginning, and the runners that nobody could end for a while."""

    calls: list[Call]
    held: frozenset[int] = frozenset()

    @classmethod
    def read(cls, file: Path) -> "History":
        calls: dict[int, Call] = {}
        held: set[int] = set()
        for line in map(json.loads, file.read_text().splitlines()):
            match line["kind"]:
                case "nemesis":
                    held.update(line["held"])
                case "invoke":
                    calls[line["call"]] = Call(line["client"], line["op"], line["args"], line["at"])
                case told:
                    asked = calls[line["call"]]
                    calls[line["call"]] = Call(
                        asked.client, asked.op, asked.args, asked.invoked, told, line["at"], line["answer"]
                    )
        return cls(list(calls.values()), frozenset(held))


class Recorder:
    """Writes a history. Safe to use from several threads."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def ask(
        self, client: str, op: str, args: dict[str, Any], call: Callable[[], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """Make a call of a client and record it; returns its answer if that was ok.

        A client that dies of an error that it should not meet leaves a call without an answer.
        """
        number = next(self._numbers)
        self._write(kind="invoke", call=number, client=client, op=op, args=args)
        told, answer = _told(call)
        self._write(kind=told, call=number, answer=answer)
        return answer if told == "ok" else None

    def nemesis(self, what: str, held: Iterable[int] = ()) -> None:
        """Record what was done to the system.

        Args:
            held: runners whose keeper was stopped, so that nobody could end them in time.
        """
        self._write(kind="nemesis", what=what, held=sorted(held))

    def close(self) -> None:
        os.close(self._log)

    def _write(self, **line: Any) -> None:
        with self._lock:
            os.write(self._log, json.dumps(line | {"at": time.monotonic()}).encode() + b"\n")


def _told(call: Callable[[], dict[str, Any]]) -> tuple[Told, dict[str, Any]]:
    """What a client is told. Only these errors are answers."""
    try:
        return "ok", call()
    except AnswerLost as error:
        return "ok", {"job": error.job_id}
    except CommitUnknown as error:
        return "unknown", {"error": str(error)}
    except StoreUnavailable as error:
        return "fail", {"not_stored": str(error)}
    except TooLate as error:
        return "fail", {"too_late": error.state}
    except EdgeRefused as error:
        return "fail", {"refused": error.state}
    except JobNotFound as error:
        return "fail", {"not_found": error.job_id}
