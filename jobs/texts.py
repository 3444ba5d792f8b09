"""What people say about a job, as it may be stored and shown."""

from __future__ import annotations

import getpass
import unicodedata
from collections.abc import Mapping

from ebbtide.errors import UsageError
from ebbtide.wording import one_line

__all__ = ["MAX_LABEL", "MAX_REASON", "MAX_WHO", "checked_labels", "checked_text", "is_number", "whoami"]

MAX_LABEL = 255
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


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a job, or those that it is looked for by."""
    if not isinstance(labels, Mapping):
        raise UsageError(f"labels are given by key, in a mapping, not as a {type(labels).__name__}")
    for key, value in labels.items():
        for text in (key, value):
            if not isinstance(text, str) or not text or len(text) > MAX_LABEL or not text.isprintable():
                raise UsageError(
                    f"label {str(key)[:40]!r}: key and value are printable, of 1 to {MAX_LABEL} characters"
                )
    return dict(labels)


def is_number(value: object, kind: type | tuple[type, ...]) -> bool:
    """Whether it is a number of that kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def whoami() -> str:
    try:
        return one_line(getpass.getuser(), MAX_WHO) or "unknown"
    except (KeyError, OSError):
        return "unknown"  # a user id without a name, as in some containers
