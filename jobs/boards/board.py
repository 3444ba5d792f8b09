"""What a board is: notices of due jobs, which one conductor at a time may take down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Board", "Notice", "Pinned", "noticed", "priority_word"]

_LONGEST = 400


@dataclass(frozen=True)
class Notice:
    """What stands on a board about a job.

    Attributes:
        key: name@version of its flow.
        due_at: unix seconds.
    """

    job_id: str
    key: str
    priority: int
    due_at: float

    @property
    def rank(self) -> tuple[float, ...]:
        """The best one has the least."""
        return (-self.priority, self.due_at)

    def details(self) -> dict[str, Any]:
        """As it is kept among the details of a job of TaskFlow's."""
        return {"job": self.job_id, "flow": self.key, "priority": self.priority, "due_at": self.due_at}


@dataclass(frozen=True)
class Pinned:
    """A notice as it was found.

    Attributes:
        notice: None: what stands there cannot be read.
        claimed: by somebody, on the board.
        job: what the board itself knows it by.
    """

    notice: Notice | None
    claimed: bool
    job: Any


class Board(ABC):
    """One link to a board, for one thread. Every method but `close` may raise LinkBroken: then it is closed,
    and another one made.

    A job may stand there twice, or not at all; what is said of it may be out of date. Whoever makes a board
    waits until it is connected, within limits of its own.
    """

    #: Whether `pinned` can call back when something has changed.
    supports_watch = False

    @abstractmethod
    def post(self, notice: Notice) -> None:
        """Pin a notice up, also where one of the same job is."""

    @abstractmethod
    def count(self) -> int:
        """About how many there are; one question to the server, however many."""

    @abstractmethod
    def pinned(self, on_change: Callable[[], None] | None = None) -> list[Pinned]:
        """Everything that is there, the best first, what cannot be read last.

        Args:
            on_change: called once, by another thread, when anything has been added or taken away since;
                only where the board supports it.
        """

    @abstractmethod
    def claim(self, pinned: Pinned, who: str) -> bool:
        """Take it, for a moment: a claim ends by itself within seconds when its holder is gone.

        False: somebody else has it, or it is not there any more.
        """

    @abstractmethod
    def release(self, pinned: Pinned, who: str) -> None:
        """Give up a claim; what is not there, or somebody else's, is left as it is."""

    @abstractmethod
    def remove(self, pinned: Sequence[Pinned]) -> None:
        """Take them down, whoever has claimed them; what is not there is no matter."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; raises nothing."""


def noticed(details: object) -> Notice | None:
    """The notice that the details of a job of TaskFlow's hold; None: they are none of ours."""
    if not isinstance(details, Mapping):
        return None
    job_id, key, priority, due_at = (details.get(name) for name in ("job", "flow", "priority", "due_at"))
    texts = all(isinstance(text, str) and 0 < len(text) <= _LONGEST for text in (job_id, key))
    numbers = type(priority) is int and type(due_at) in (int, float)
    if not texts or not numbers:
        return None
    return Notice(str(job_id), str(key), int(str(priority)), float(str(due_at)))


def priority_word(priority: int) -> str:
    """TaskFlow's nearest word, for whoever looks at the board with its tools. Nothing here reads it."""
    if priority == 0:
        return "NORMAL"
    if priority > 0:
        return "VERY_HIGH" if priority >= 500 else "HIGH"
    return "VERY_LOW" if priority <= -500 else "LOW"
