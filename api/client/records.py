"""Records as posters return them, read back from what the API answers."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from typing import Any, TypeVar

__all__ = ["read"]

_T = TypeVar("_T")


def read(kind: type[_T], values: dict[str, Any]) -> _T:
    """The record of what its `as_dict()` was. What a newer server tells besides is left out."""
    hints = typing.get_type_hints(kind)
    known: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # records are dataclasses
        if field.name in values:
            known[field.name] = _value(field.name, hints[field.name], values[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            known[field.name] = {} if typing.get_origin(hints[field.name]) is dict else None
    return kind(**known)


def _value(name: str, hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if (name == "at" or name.endswith("_at")) and isinstance(value, str):
        return datetime.fromisoformat(value).timestamp()
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _value("", next(part for part in typing.get_args(hint) if part is not types.NoneType), value)
    if typing.get_origin(hint) in (list, tuple):
        found = [_value("", typing.get_args(hint)[0], each) for each in value]
        return tuple(found) if typing.get_origin(hint) is tuple else found
    return read(hint, value) if isinstance(hint, type) and is_dataclass(hint) else value
