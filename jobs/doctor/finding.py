"""What was found: about what, how bad it is, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

__all__ = ["Finding", "Level", "fine", "note", "wrong"]


class Level(StrEnum):
    """How bad a finding is."""

    FINE = "fine"
    NOTE = "note"  # nothing is broken; somebody may want to know
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `advice` says what to do, and is empty where nothing is to be done."""

    subject: str
    level: Level
    words: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}


def fine(subject: str, words: str) -> Finding:
    return Finding(subject, Level.FINE, words)


def note(subject: str, words: str, advice: str) -> Finding:
    return Finding(subject, Level.NOTE, words, advice)


def wrong(subject: str, words: str, advice: str) -> Finding:
    return Finding(subject, Level.WRONG, words, advice)
