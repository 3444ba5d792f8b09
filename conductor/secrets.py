"""Finding the secrets of a job where its parameters say that they are kept. Done in its runner only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.conductor.redaction import SHORTEST, Redactor
from ebbtide.flows import Secret
from ebbtide.flows.keptsecrets import SecretUnusable, kept_text
from ebbtide.tasks.run import Missing

__all__ = ["Resolved", "resolve"]


@dataclass(frozen=True)
class Resolved:
    """The values for a run's store, its secrets found.

    Attributes:
        values: by name; for a Secret its plain text, or a `Missing` that says why there is none.
        redactor: knows the secrets that were found.
        problem: one line about those that were not; None when all were.
    """

    values: dict[str, Any]
    redactor: Redactor
    problem: str | None


def resolve(values: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Resolved:
    """Replace each Secret in `values` by the plain text that is kept there now."""
    found: dict[str, str] = {}
    plain = dict(values)
    problems: list[str] = []
    for name, value in values.items():
        if not isinstance(value, Secret):
            continue
        try:
            plain[name] = found[value.reference] = _text_of(value, environ)
        except SecretUnusable as error:
            problem = f"the secret {value.reference} of parameter '{name}' cannot be used: {error}"
            plain[name] = Missing(problem)
            problems.append(problem)
    return Resolved(plain, Redactor(found), "; ".join(problems) or None)


def _text_of(secret: Secret, environ: Mapping[str, str]) -> str:
    text = kept_text(secret, environ)
    if len(text) < SHORTEST:
        why = f"it has fewer than {SHORTEST} characters, too few to keep them out of logs"
        raise SecretUnusable(why)
    return text
