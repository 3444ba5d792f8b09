"""Notices: what is said on the next page after something was done.

The URL has a code and numbers alone: a text in a URL could be anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping

from ebbtide.jobs.many import NOT_KNOWN, NOT_STORED, Answer
from ebbtide.jobs.verbs import ACCEPTED, ALREADY_REQUESTED

__all__ = ["NOTICES", "notice", "tally"]

NOTICES: Mapping[str, str] = {
    "posted": "Posted. It begins as soon as a conductor takes it up.",
    "cancel-accepted": "The cancel is stored. What the job had done is being undone, newest first.",
    "cancel-at-once": "Cancelled. Nothing of it had begun, so there was nothing to undo.",
    "cancel-known": "A cancel of this job had been asked for before; that one counts.",
    "cancel-many": "",
    "retried": "Posted once more, as its next attempt.",
    "paused": "It rests. Nothing was undone.",
    "pause-accepted": "It will rest as soon as the tasks that run now have ended.",
    "resumed": "It goes on where it was.",
    "rewind-accepted": "What came after the savepoint is being undone; then it rests.",
    "unparked": "It goes on.",
    "skipped": "That undo is left out, with your reason, and the job goes on.",
    "accepted": "It is closed as it is, with your reason.",
    "deleted": "The job is removed.",
    "delete-accepted": "It is undone first, and removed with its end.",
}
# What foretells something is said until that has happened.
_UNTIL_PAST: Mapping[str, frozenset[str]] = {
    "posted": frozenset({"pending", "scheduled"}),
    "retried": frozenset({"pending", "scheduled"}),
    "cancel-accepted": frozenset({"cancelling", "overdue"}),
    "pause-accepted": frozenset({"running"}),
    "rewind-accepted": frozenset({"running", "reverting"}),
    "resumed": frozenset({"pending", "running"}),
    "unparked": frozenset({"pending", "running", "reverting", "cancelling"}),
    "skipped": frozenset({"pending", "running", "reverting", "cancelling"}),
    "delete-accepted": frozenset({"running", "cancelling", "reverting", "overdue"}),
}
_ENOUGH = 9


def notice(fields: Mapping[str, str], phase: str | None = None) -> str:
    """The text for the query of a page; empty if there is nothing to say, or it is past.

    Args:
        phase: of the job that the page is about.
    """
    code = fields.get("told", "")
    if phase is not None and phase not in _UNTIL_PAST.get(code, {phase}):
        return ""
    return _of_many(fields) if code == "cancel-many" else NOTICES.get(code, "")


def tally(answers: list[Answer]) -> dict[str, int]:
    """What many were answered, as the numbers of a notice."""
    words = [answer.answer for answer in answers]
    lost = sum(word in (NOT_STORED, NOT_KNOWN) for word in words)
    stored, known = words.count(ACCEPTED), words.count(ALREADY_REQUESTED)
    return {"stored": stored, "known": known, "lost": lost, "other": len(words) - stored - known - lost}


def _of_many(fields: Mapping[str, str]) -> str:
    told = (
        ("stored", "{} stored; what these jobs had done is being undone, newest first."),
        ("known", "{} had been asked for before."),
        ("other", "{} came too late, or the job was gone."),
        ("lost", "{} may not be stored, since the store went away: do these again."),
    )
    found = [(words, _number(fields.get(name, ""))) for name, words in told]
    return "Cancels: " + " ".join(words.format(number) for words, number in found if number)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _ENOUGH else 0
