"""Masking: parameters and results as text that a page may show."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ebbtide.flows.secret import FORMAT
from ebbtide.wording import hide_password

__all__ = ["masked", "shown_json"]

MASK = "••••••"
LONGEST = 20_000
_NAMES_A_SECRET = re.compile(
    r"pass(word|wd|phrase)|secret|token|credential|api[_-]?key|private[_-]?key|^(key|pwd|auth|authorization)$",
    re.IGNORECASE,
)


def masked(params: Mapping[str, Any], schema: Mapping[str, Any] | None) -> dict[str, str]:
    """Each parameter as a text. What a schema or a name calls a secret is hidden, a URL's password too.

    Args:
        schema: of the flow's parameters; None: nobody has published the flow.
    """
    properties = (schema or {}).get("properties", {})
    secrets = {name for name, about in properties.items() if f'"{FORMAT}"' in json.dumps(about)}
    return {
        name: MASK if name in secrets and value is not None else _text(_hidden(name, value))
        for name, value in params.items()
    }


def shown_json(value: Any) -> tuple[str, bool]:
    """A value as JSON text to be read, and whether that is all of it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return hide_password(text)[:LONGEST], len(text) <= LONGEST  # cut after: a half URL is not known as one


def _hidden(name: str, value: Any) -> Any:
    """The value without what it would be wrong to show; names decide where no schema does."""
    secret = _NAMES_A_SECRET.search(name)
    if isinstance(value, Mapping):
        return {key: _hidden(name if secret else str(key), inner) for key, inner in value.items()}
    if isinstance(value, str) and value:
        return MASK if secret else hide_password(value)
    if isinstance(value, list):
        return [_hidden(name, inner) for inner in value]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
