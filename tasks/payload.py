"""What may be stored of a user's values: JSON, checked before anything is written."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["MAX_BYTES", "MAX_DEPTH", "PayloadError", "decode", "encode", "storable"]

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 100
# Python refuses to print integers of more than 4,300 digits (sys.int_info); 14,000 bits stay below.
_MAX_INT_BITS = 14_000


class PayloadError(ValueError):
    """A value that cannot be stored; the text says what it is and where in the value it stands."""


def encode(value: Any, what: str, *, max_bytes: int = MAX_BYTES) -> str:
    """The JSON text of `value`; tuples become lists.

    Args:
        value: str-keyed dicts, lists, tuples, str, int, float, bool and None.
        what: how an error names it, such as "the result of copy".
        max_bytes: size limit of the text.

    Raises:
        PayloadError: not JSON, not finite, deeper than 100 levels, or too large. The same on
            every store: a database never meets a value that it could refuse.
    """
    _refuse_unstorable(value, what, 0)
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    if len(text) > max_bytes:
        raise PayloadError(f"{what} takes {len(text)} bytes of JSON, more than the {max_bytes} allowed")
    return text


def decode(text: str) -> Any:
    return json.loads(text)


def storable(text: str) -> str:
    """`text` as every store takes it: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode("utf-8")


def _refuse_unstorable(value: Any, where: str, depth: int) -> None:
    if value is None or isinstance(value, (str, bool)):
        return
    if depth > MAX_DEPTH:
        raise PayloadError(f"{where[:120]} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, int):
        if value.bit_length() > _MAX_INT_BITS:
            raise PayloadError(f"{where} is an integer of more than 4,200 digits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PayloadError(f"{where} is {value}, which JSON does not have")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise PayloadError(f"{where} has the key {key!r}: keys must be text")
            _refuse_unstorable(item, f"{where}[{key[:40]!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _refuse_unstorable(item, f"{where}[{number}]", depth + 1)
    else:
        raise PayloadError(f"{where} is a {type(value).__name__}, which is not JSON")
