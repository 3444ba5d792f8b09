"""Intake: reads the body of a request, within limits, and refuses what is no strict JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Any
from urllib.parse import parse_qsl

from ebbtide.api.problems import ApiError
from ebbtide.tasks.payload import PayloadError, each_key_once

__all__ = ["MAX_DEPTH", "MAX_KEYS", "read_form", "read_json"]

MAX_DEPTH = 32
MAX_KEYS = 10_000
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


def read_json(body: bytes) -> Any:
    """The value of a body. Raises ApiError 400 for what is no JSON as strict readers have it."""
    if not body:
        raise ApiError(400, "invalid-json", "No JSON", "the body is empty: a JSON object is wanted")
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=each_key_once)
    except UnicodeDecodeError as error:
        raise _invalid("the body is not UTF-8") from error
    except PayloadError as error:
        raise _invalid(str(error).replace("an object in it", "an object in the body")) from error
    except RecursionError as error:
        raise _invalid(f"it is nested deeper than {MAX_DEPTH} levels") from error
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg.lower()}, at line {error.lineno}, column {error.colno}") from error
    except ValueError as error:  # a constant that JSON lacks, or a number of more digits than Python reads
        raise _invalid("it holds a number that cannot be stored") from error
    _check(value)
    return value


def read_form(body: bytes) -> dict[str, str]:
    """The fields of a form of ours; of one that comes twice, the last. Raises ApiError 400."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_KEYS
        )
    except ValueError as error:
        raise ApiError(400, "invalid-form", "No form", "the body is not a form in UTF-8") from error
    if any("\0" in part for pair in pairs for part in pair):
        raise ApiError(400, "invalid-form", "No form", "the form holds a NUL character")
    return dict(pairs)


def _invalid(detail: str) -> ApiError:
    return ApiError(400, "invalid-json", "No JSON", detail)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _check(value: Any) -> None:
    """Refuse what JSON allows and a store or a reader does not. Without recursion: depth is an attack."""
    level, keys = [value], 0
    for depth in range(MAX_DEPTH + 2):
        if depth > MAX_DEPTH and any(isinstance(each, dict | list) for each in level):
            raise _invalid(f"it is nested deeper than {MAX_DEPTH} levels")
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                keys += len(each)
                below.extend(each)
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
            elif isinstance(each, str) and ("\0" in each or _HALF_OF_A_PAIR.search(each)):
                raise _invalid("a text in it holds NUL or half of a surrogate pair")
            elif isinstance(each, float) and not math.isfinite(each):
                raise _invalid("it holds a number that cannot be stored")
        if keys > MAX_KEYS:
            raise _invalid(f"its objects have more than {MAX_KEYS} keys")
        if not below:
            return
        level = below
