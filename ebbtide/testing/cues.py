"""Cues: at which moment of a run a test has it cancelled, or killed."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Cue",
    "Moment",
    "Place",
    "ReadyCue",
    "at_begin",
    "at_checkpoint",
    "at_data",
    "at_message",
    "at_return",
]


class Place(enum.StrEnum):
    """Where in a body a run has come to."""

    BEFORE = "before"  # it has not begun, and nothing says so yet
    BEGUN = "begun"  # it is stored that it has begun; its first line comes next
    CHECKPOINT = "checkpoint"  # it looks at the cancel event: a checkpoint, a sleep, `cancel.requested`
    REPORT = "report"  # it has reported progress
    RETURNED = "returned"  # it has returned or raised; nobody knows yet


@dataclass(frozen=True)
class Moment:
    """A moment of a run, as a cue is asked about it.

    `checkpoint` counts the checkpoints that the body has come to, this one included; `data` is what was saved
    last, `fraction` and `message` what was reported last.
    """

    place: Place
    checkpoint: int = 0
    data: Any = None
    fraction: float | None = None
    message: str | None = None


#: Whether now is the time. It is asked at each moment, until it first says yes.
Cue = Callable[[Moment], bool]


@dataclass(frozen=True)
class ReadyCue:
    """A cue that can say what it waits for."""

    what: str
    is_now: Cue

    def __call__(self, moment: Moment) -> bool:
        return self.is_now(moment)

    def __str__(self) -> str:
        return self.what


def at_begin(*, stored: bool = False) -> Cue:
    """Before the body. A cancel there means that it never begins.

    Args:
        stored: just after it was stored that it has begun: as late as can be before its first line.
    """
    place = Place.BEGUN if stored else Place.BEFORE
    return ReadyCue("its begin", lambda moment: moment.place is place)


def at_checkpoint(number: int) -> Cue:
    """At the checkpoint of that number, from 1: each look at the cancel event counts, each sleep too."""
    if number < 1:
        raise ValueError(f"checkpoints are counted from 1: there is no checkpoint {number}")
    return ReadyCue(
        f"checkpoint {number}",
        lambda moment: moment.place is Place.CHECKPOINT and moment.checkpoint == number,
    )


def at_data(data: Any) -> Cue:
    """At the first checkpoint once that was saved, as decoded from JSON."""
    return ReadyCue(
        f"a checkpoint with the data {data!r:.80}",
        lambda moment: moment.place is Place.CHECKPOINT and moment.data == data,
    )


def at_message(text: str) -> Cue:
    """At a report with that message. A cancel there is delivered at the next checkpoint."""
    return ReadyCue(
        f"a report with the message {text!r:.80}",
        lambda moment: moment.place is Place.REPORT and moment.message == text,
    )


def at_return() -> Cue:
    """After the last line of the body, before anybody knows that it has ended."""
    return ReadyCue("its end", lambda moment: moment.place is Place.RETURNED)
