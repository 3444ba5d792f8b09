"""Filters: which jobs a page is about, as its URL says it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

__all__ = ["filled", "given", "query"]

_FIELDS = ("state", "flow", "text", "limit", "cursor")


def given(asked: QueryParams) -> dict[str, Any]:
    """The fields of a query, all of them; a form sends the empty ones as well."""
    fields: dict[str, Any] = {name: asked.get(name, "").strip() for name in _FIELDS}
    return fields | {"label": [label.strip() for label in asked.getlist("label") if label.strip()]}


def filled(fields: dict[str, Any]) -> dict[str, Any]:
    """Those that say something."""
    return {name: value for name, value in fields.items() if value}


def query(fields: dict[str, Any]) -> str:
    """The query of a URL, with its question mark; empty if no field says something."""
    kept = filled(fields)
    return f"?{urlencode(kept, doseq=True)}" if kept else ""
