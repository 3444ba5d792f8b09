"""What a text of a command line means, by the JSON schema of the parameter that it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.tasks import payload

__all__ = ["Meant", "Unfit"]

_ANY_TYPE = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
_TEXT_TYPES = frozenset({"string", "null"})
_LIST_TYPES = frozenset({"array", "null"})
_NESTED_TYPES = frozenset({"array", "object"})
# Without the text itself, which may be long.
_NO_JSON = 'begins with [ or { and is not the JSON that is wanted; a text in a list is written ["text"]'


class Unfit(Exception):
    """Why one value does not fit its parameter, in words. Never leaves this room."""


@dataclass(frozen=True)
class Meant:
    """Called with a text: itself for a parameter that takes texts, else JSON, else itself.

    For a list, one text that is no JSON list is its only element, and an empty text is the empty list. What
    begins as a list or an object and is neither is a slip of the pen, where one of them is taken: `Unfit`.
    """

    types: frozenset[str]
    items_are_texts: bool

    @classmethod
    def of(cls, schema: Any, definitions: Mapping[str, Any]) -> Meant:
        return cls(_json_types(schema, definitions), _items_are_texts(schema, definitions))

    def __call__(self, text: str) -> Any:
        if "string" in self.types and self.types <= _TEXT_TYPES:
            return text
        value = _json_or_text(text)
        if isinstance(value, str) and self.types & _NESTED_TYPES and text.lstrip().startswith(("[", "{")):
            raise Unfit(_NO_JSON)
        if "array" not in self.types or not self.types <= _LIST_TYPES:
            return value
        if isinstance(value, list) or (value is None and "null" in self.types):
            return value
        if text == "":
            return []
        if isinstance(value, dict) and self.items_are_texts:
            raise Unfit(_NO_JSON)
        return [text if self.items_are_texts and not isinstance(value, str) else value]


def _json_or_text(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=payload.each_key_once)
    except payload.PayloadError as exc:
        raise Unfit(str(exc)) from exc
    except RecursionError as exc:
        raise Unfit(f"it is nested deeper than {payload.MAX_DEPTH} levels") from exc
    except ValueError:  # not JSON; or a number of more digits than Python reads
        return text


def _json_types(schema: Any, definitions: Mapping[str, Any]) -> frozenset[str]:
    """Which JSON types a schema can accept at its top."""
    if not isinstance(schema, dict):
        return _ANY_TYPE
    if "$ref" in schema:
        return _json_types(definitions.get(schema["$ref"].rpartition("/")[2]), definitions)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return frozenset().union(*(_json_types(each, definitions) for each in schema[choice]))
    if "type" in schema:
        return frozenset([schema["type"]] if isinstance(schema["type"], str) else schema["type"])
    return _ANY_TYPE


def _items_are_texts(schema: Any, definitions: Mapping[str, Any]) -> bool:
    if not isinstance(schema, dict):
        return False
    for each in [schema, *schema.get("anyOf", ())]:
        if "items" in each and "prefixItems" not in each:
            types = _json_types(each["items"], definitions)
            return "string" in types and types <= _TEXT_TYPES
    return False
