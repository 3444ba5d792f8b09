"""What may be stored of a user's values: JSON, checked before anything is written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from ebbtide.wording import one_line

__all__ = ["MAX_BYTES", "MAX_DEPTH", "PayloadError", "decode", "each_key_once", "encode", "storable"]

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 100
# Python refuses to print integers of more than 4,300 digits (sys.int_info); 14,000 bits stay below.
_MAX_INT_BITS = 14_000
_LONGEST_PLACE = 120


class PayloadError(ValueError):
    """A value that cannot be stored; the text says what it is and where in the value it stands."""


class _Refused(Exception):
    """What is wrong with a part of a value. The place is put together only now, innermost step first."""

    def __init__(self, problem: str, *, placed: bool = True) -> None:
        super().__init__(problem)
        self.problem = problem
        self.placed = placed
        self.steps: list[str | int] = []

    def told(self, what: str, hide: Callable[[str], str]) -> str:
        # Hidden before anything is cut: of a secret that is a key not even a part is told.
        steps = (f"[{hide(s)[:40]!r}]" if isinstance(s, str) else f"[{s}]" for s in reversed(self.steps))
        place = "".join(steps) if self.placed else ""
        if len(place) > _LONGEST_PLACE:
            place = place[: _LONGEST_PLACE - 3] + "..."
        return f"{what}{place} {self.problem}"


def encode(
    value: Any, what: str, *, max_bytes: int = MAX_BYTES, hide: Callable[[str], str] = lambda text: text
) -> str:
    """The JSON text of `value`; tuples become lists.

    Args:
        value: str-keyed dicts, lists, tuples, str, int, float, bool and None.
        what: how an error names it, such as "the result of copy".
        max_bytes: size limit of the text.
        hide: what makes a text one that an error may show.

    Raises:
        PayloadError: not JSON, not finite, more than 100 lists and dicts inside one another, or
            too large. The same on every store: a database never meets a value that it could refuse.
    """
    try:
        _refuse_unstorable(value, 0)
    except _Refused as refused:
        raise PayloadError(refused.told(what, hide)) from None
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    if len(text) > max_bytes:
        raise PayloadError(f"{what} takes {len(text)} bytes of JSON, more than the {max_bytes} allowed")
    return text


def decode(text: str) -> Any:
    return json.loads(text)


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for `object_pairs_hook`; PayloadError names a key that comes twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise PayloadError(f"an object in it has the key {one_line(key, 40)!r} twice")
        found[key] = value
    return found


def storable(text: str) -> str:
    """`text` as every store takes it: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode("utf-8")


def _refuse_unstorable(value: Any, depth: int) -> None:
    """Raise _Refused for what is not JSON in `value`, around which `depth` lists and dicts stand."""
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int):
        if value.bit_length() > _MAX_INT_BITS:
            raise _Refused("is an integer of more than 4,200 digits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _Refused(f"is {value}, which JSON does not have")
    elif isinstance(value, (dict, list, tuple)):
        if depth >= MAX_DEPTH:
            raise _Refused(f"is nested deeper than {MAX_DEPTH} levels", placed=False)
        _refuse_unstorable_items(value, depth + 1)
    else:
        raise _Refused(f"is a {type(value).__name__}, which is not JSON")


def _refuse_unstorable_items(container: Any, depth: int) -> None:
    keyed = isinstance(container, dict)
    key: Any
    for key, item in container.items() if keyed else enumerate(container):
        if keyed and not isinstance(key, str):
            raise _Refused(f"has the key {_shown_key(key)}: keys must be text")
        try:
            _refuse_unstorable(item, depth)
        except _Refused as refused:
            refused.steps.append(key)
            raise


def _shown_key(key: object) -> str:
    # Only what is sure to be short: a repr may be of any length, and raise.
    if key is None or isinstance(key, float) or (isinstance(key, int) and key.bit_length() <= 64):
        return repr(key)
    return f"of type {type(key).__name__}"
