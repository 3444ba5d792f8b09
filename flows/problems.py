"""What pydantic found wrong with a parameter, in words for the person who typed it."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from ebbtide.wording import one_line

__all__ = ["tell"]

_MOST_SHOWN = 3

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a decimal number",
    "bool": "true or false",
    "string": "a text",
    "bytes": "a text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "iterable": "a list",
    "dict": "an object",
    "mapping": "an object",
    "model": "an object",
    "model_attributes": "an object",
    "dataclass": "an object",
    "datetime": "a date and time such as 2026-01-31T12:00:00Z",
    "date": "a date such as 2026-01-31",
    "time": "a time such as 12:30:00",
    "time_delta": "a duration such as PT1H30M",
    "uuid": "a UUID",
    "url": "a URL",
}
# The part of an error's type after one of the above that says no more than "not that".
_WRONG_SHAPE = frozenset(
    {
        "type",
        "parsing",
        "parsing_size",
        "from_float",
        "from_date_parsing",
        "from_datetime_parsing",
        "syntax_violation",
    }
)
_NAMED_LAST = frozenset({"missing", "missing_argument", "extra_forbidden", "unexpected_keyword_argument"})
_WORDS_OF_PYDANTIC = ("Value error, ", "Assertion failed, ")
_SUBJECTS = (
    "Input ",
    "String ",
    "Data ",
    "List ",
    "Tuple ",
    "Set ",
    "Frozenset ",
    "Dictionary ",
    "Value ",
    "URL ",
)


def tell(errors: Iterable[ErrorDetails], value: Any) -> str:
    """One text for all `errors` of one parameter whose JSON value is `value`.

    The members of a union complain one by one about the same place; that is told once.
    """
    by_place: dict[str, list[ErrorDetails]] = {}
    for error in errors:
        by_place.setdefault(_place(error, value), []).append(error)
    told = [_at(place, _told_together(found)) for place, found in list(by_place.items())[:_MOST_SHOWN]]
    more = len(by_place) - _MOST_SHOWN
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _place(error: ErrorDetails, value: Any) -> str:
    """Where inside `value`, such as ``files[2].name``; empty for the value itself.

    A location also holds names of union members and validators: what is not in the value is left out.
    """
    place = ""
    steps: Sequence[int | str] = error["loc"]
    for number, step in enumerate(steps, start=1):
        if isinstance(value, dict) and step in value:
            place += f".{step}"
            value = value[step]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            place += f"[{step}]"
            value = value[step]
        elif number == len(steps) and error["type"] in _NAMED_LAST:
            place += f".{step}" if isinstance(step, str) else f"[{step}]"
    return one_line(place.removeprefix("."), 60)


def _at(place: str, text: str) -> str:
    if not place:
        return text
    if text == "missing":
        return f"{place} is missing"
    return f"{place} {text}" if text.startswith(("should ", "is ")) else f"{place}: {text}"


def _told_together(errors: Sequence[ErrorDetails]) -> str:
    texts = list(dict.fromkeys(_words(error) for error in errors))
    if all(text.startswith("should be ") for text in texts):
        joined = "should be " + " or ".join(text.removeprefix("should be ") for text in texts)
    else:
        joined = " or ".join(texts)
    of_users = errors[0]["type"] in ("value_error", "assertion_error")
    if joined.startswith("should ") and ", not " not in joined and not of_users:
        joined += f", not {_shown(errors[0]['input'])}"
    return joined


def _words(error: ErrorDetails) -> str:
    kind = error["type"]
    if kind in ("missing", "missing_argument"):
        return "missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return "is not known"
    if kind == "json_invalid":  # the JSON is of our own making: only half a surrogate pair makes it invalid
        return "holds text that is not valid Unicode"
    if kind == "none_required":
        return "should be null"
    family, _, problem = kind.rpartition("_")
    while family:
        if family in _EXPECTED and problem in _WRONG_SHAPE:
            return f"should be {_EXPECTED[family]}"
        family, _, head = family.rpartition("_")
        problem = f"{head}_{problem}"
    message = one_line(error["msg"], 120)
    for prefix in _WORDS_OF_PYDANTIC:
        if message.startswith(prefix):
            return message.removeprefix(prefix)
    for subject in _SUBJECTS:
        if message.startswith(f"{subject}should "):
            return message.removeprefix(subject).replace(" after validation", "")
    return message[:1].lower() + message[1:]


def _shown(value: Any) -> str:
    """A short form of a JSON value; lists and objects by their kind alone."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"'{one_line(value, 40)}'"
    if isinstance(value, (int, float)):
        return one_line(value, 40)
    return "a list" if isinstance(value, list) else "an object"
