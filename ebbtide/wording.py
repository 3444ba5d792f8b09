"""Text that may be shown: on one line, without control characters, without passwords.

What a user typed, what a file held and what a database driver said all end up in messages. A terminal
obeys the escape characters in them, and a driver repeats the URL with its password.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

# Up to the last @: a password with an unescaped @ or / in it is a mistake, and a secret all the same.
_IN_URL = re.compile(r"(?P<before>[a-z][\w+.-]*://[^\s/?#:@]*:)\S*(?=@)", re.IGNORECASE)
_BY_KEY = re.compile(r"(?P<before>\b(?:password|passwd|pwd|sslpassword)=)[^&;\s]*", re.IGNORECASE)
_LONGEST = 300


def one_line(value: object, limit: int = _LONGEST) -> str:
    """The text of `value` with white space folded, unprintable characters escaped, cut at `limit`."""
    folded = " ".join(str(value).split())
    shown = "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in folded[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def hide_password(text: str) -> str:
    """`text` with the password of each URL in it as `***`. Applying it twice changes nothing."""
    return _BY_KEY.sub(r"\g<before>***", _IN_URL.sub(r"\g<before>***", text))


def is_plain_number(text: str) -> bool:
    """Whether what Python reads as a number is one to people: not 1_0, nor digits of another script."""
    return text.isascii() and "_" not in text


def unknown(kind: str, name: str, known: Iterable[str], where: str) -> str:
    """Words for a name that is not known: with the nearest known one, else with all."""
    folded = {candidate.lower(): candidate for candidate in known}
    nearest = get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[nearest[0]]}?" if nearest else f"known: {', '.join(folded.values())}"
    return f"unknown {kind} {one_line(name, 80)}{where}; {hint}"
