"""What people say about a job, as it may be stored and shown."""

from __future__ import annotations

import getpass
import unicodedata

from ebbtide.errors import UsageError
from ebbtide.wording import one_line

__all__ = ["MAX_REASON", "MAX_WHO", "checked_text", "whoami"]

MAX_REASON = 1000
MAX_WHO = 255
# They turn the text that follows them round: what is read would not be what is stored.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def checked_text(text: str, what: str, limit: int) -> str:
    """`text` on one line. Refuses what a terminal would obey, a reader be misled by, or a store not take."""
    if not isinstance(text, str):
        raise UsageError(f"{what} should be a text, not a {type(text).__name__}")
    folded = " ".join(text.split())
    if len(folded) > limit:
        raise UsageError(f"{what} has {len(folded)} characters; {limit} are allowed")
    for character in folded:
        if unicodedata.category(character) in ("Cc", "Cs") or character in _BIDI_CONTROLS:
            raise UsageError(f"{what} holds {ascii(character)[1:-1]}, which cannot be shown: leave it out")
    return folded


def whoami() -> str:
    try:
        return one_line(getpass.getuser(), MAX_WHO) or "unknown"
    except (KeyError, OSError):
        return "unknown"  # a user id without a name, as in some containers
