"""Finding the secrets of a job where its parameters say that they are kept. Done in its runner only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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


def resolve(
    values: Mapping[str, Any], environ: Mapping[str, str] = os.environ, *, allowed: Sequence[str] = ()
) -> Resolved:
    """Replace each Secret in `values` by the plain text that is kept there now.

    Args:
        allowed: the places that jobs are given secrets of, as the option secret_references has them; without
            any all are.
    """
    found: dict[str, str] = {}
    plain = dict(values)
    problems: list[str] = []
    for name, value in values.items():
        if not isinstance(value, Secret):
            continue
        try:
            if allowed and not any(_covers(place, value) for place in allowed):
                why = "secret_references of the conductor does not have it"
                raise SecretUnusable(why, "add it there and try again")
            plain[name] = found[value.reference] = _text_of(value, environ)
        except SecretUnusable as error:
            problem = f"the secret {value.reference} of parameter '{name}' cannot be used: {error}"
            plain[name] = Missing(problem)
            problems.append(problem)
    return Resolved(plain, Redactor(found), "; ".join(problems) or None)


def _covers(place: str, secret: Secret) -> bool:
    if secret.path is not None and os.path.normpath(secret.path) != secret.path:
        return False  # it might lead out of the folder it begins with
    if place.endswith(("*", "/")):
        return secret.reference.startswith(place.removesuffix("*"))
    return secret.reference == place


def _text_of(secret: Secret, environ: Mapping[str, str]) -> str:
    text = kept_text(secret, environ)
    if len(text) < SHORTEST:
        why = f"it has fewer than {SHORTEST} characters, too few to keep them out of logs"
        raise SecretUnusable(why)
    return text
