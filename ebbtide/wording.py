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


def span(seconds: float) -> str:
    """A duration in the unit that suits it: 3 ms, 1.25 s, 2 min 05 s, 3 h 07 min."""
    seconds = max(seconds, 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def counted(count: int, noun: str) -> str:
    """So many of them: 1 job, 2 jobs."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def percent(fraction: float) -> str:
    # Rounded down: 100 % is said of what is done, not of what is nearly done.
    return f"{int(fraction * 100 + 1e-9)} %"
