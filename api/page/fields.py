"""Fields: the form of a flow, made from the JSON schema of its parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ebbtide.flows.published import PublishedFlow
from ebbtide.flows.secret import FORMAT as SECRET

__all__ = ["Field", "fields_of", "meant", "with_problems", "with_texts"]

#: Before the name of each parameter in a form, so that none is taken for another field of it.
PREFIX = "p-"

_JSON, _TEXT, _LINES, _CHOICE, _NUMBER, _SECRET = "json", "text", "lines", "choice", "number", "secret"
# What browsers have a field for, and send as the schema wants it.
_OF_FORMATS = {"date": "date", SECRET: _SECRET}
_OF_TYPES = {"integer": _NUMBER, "number": _NUMBER, "string": _TEXT}


@dataclass(frozen=True)
class Field:
    """A field of a form.

    Attributes:
        kind: text, number, date, choice, lines (a list of texts, one a line), secret or json.
        value: what stands in it.
        default: what the flow takes without it, as a text; None: it has none.
        wrong: what is wrong with what was sent.
    """

    name: str
    kind: str
    value: str
    hint: str
    required: bool
    default: str | None
    nullable: bool = False
    choices: tuple[str, ...] = ()
    wrong: str = ""

    @property
    def key(self) -> str:
        """Its name in the form."""
        return PREFIX + self.name


def fields_of(flow: PublishedFlow) -> list[Field]:
    """The fields for the parameters of a flow, with its defaults in them."""
    definitions = flow.parameters.get("$defs", {})
    required = flow.parameters.get("required", ())
    return [
        _field(name, schema, definitions, required=name in required)
        for name, schema in flow.parameters.get("properties", {}).items()
    ]


def with_texts(fields: Iterable[Field], form: Mapping[str, str]) -> list[Field]:
    """The fields with what was typed into them."""
    return [replace(field, value=form.get(field.key, "")) for field in fields]


def with_problems(fields: Iterable[Field], problems: Iterable[tuple[str, str]]) -> list[Field]:
    """The fields with what is wrong with them. What may be a secret itself is not shown again."""
    by_name: dict[str, list[str]] = {}
    for name, text in problems:
        by_name.setdefault(name, []).append(text)
    return [
        replace(
            field,
            wrong="; ".join(by_name.get(field.name, ())),
            value="" if field.kind == _SECRET and field.name in by_name else field.value,
        )
        for field in fields
    ]


def meant(flow: PublishedFlow, fields: Iterable[Field]) -> dict[str, Any]:
    """The parameters that are meant by what stands in the fields.

    An empty field says nothing, and the flow's default is taken; but a text or a list whose default was
    erased is empty.

    Raises:
        ParameterError: what stands there fits no parameter.
    """
    texts: dict[str, str] = {}
    given: dict[str, Any] = {}
    for field in fields:
        if field.kind == _LINES and (field.value.strip() or field.default):
            given[field.name] = [line.strip() for line in field.value.splitlines() if line.strip()]
        elif field.value.strip() or (field.kind == _TEXT and field.default and not field.nullable):
            # Browsers end lines in two characters, whatever the system.
            texts[field.name] = field.value.replace("\r\n", "\n")
        elif field.required and field.nullable:
            given[field.name] = None
    return flow.parse(texts, given)


def _field(name: str, schema: Any, definitions: Mapping[str, Any], *, required: bool) -> Field:
    about = schema if isinstance(schema, dict) else {}
    bare, nullable = _bare(about, definitions)
    choices = _choices(bare)
    kind = _CHOICE if choices else _kind(bare, definitions)
    default = about.get("default")
    told = None if "default" not in about else "" if default is None else _told(default, kind)
    hint = str(about.get("description") or bare.get("description") or "")
    return Field(name, kind, told or "", hint, required, told, nullable, choices)


def _bare(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema behind references, without null; and whether null was there."""
    nullable = False
    for _ in range(len(definitions) + 2):
        if "$ref" in schema:
            schema = definitions.get(str(schema["$ref"]).rpartition("/")[2], {})
        elif "anyOf" in schema:
            others = [each for each in schema["anyOf"] if each.get("type") != "null"]
            nullable = nullable or len(others) < len(schema["anyOf"])
            if len(others) != 1:
                break
            schema = others[0]
        else:
            break
    return schema, nullable


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items")
        bare, nullable = _bare(items, definitions) if isinstance(items, dict) else ({}, False)
        texts = _kind(bare, definitions) == _TEXT and not nullable and "prefixItems" not in schema
        return _LINES if texts else _JSON
    if kind == "string" and schema.get("format") in _OF_FORMATS:
        return _OF_FORMATS[str(schema["format"])]
    return _OF_TYPES.get(str(kind), _JSON)


def _choices(schema: Mapping[str, Any]) -> tuple[str, ...]:
    if schema.get("type") == "boolean":
        return ("true", "false")
    found = schema.get("enum", [schema["const"]] if "const" in schema else ())
    return tuple(_told(each, _CHOICE) for each in found)


def _told(value: Any, kind: str) -> str:
    """A value as somebody would type it into a field of this kind."""
    if kind == _LINES and isinstance(value, list):
        return "\n".join(map(str, value))
    if isinstance(value, str) and kind != _JSON:
        return value
    return json.dumps(value, ensure_ascii=False)
