"""How many jobs of a flow may run at once: a key, its slots, and what becomes of a post if all are taken."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.errors import FlowRefused, UsageError
from ebbtide.wording import one_line

__all__ = ["MAX_KEY", "MAX_SLOTS", "ON_BUSY", "REFUSE", "WAIT", "Exclusive", "checked_busy", "checked_key"]

WAIT, REFUSE = "wait", "refuse"
ON_BUSY = (WAIT, REFUSE)
MAX_KEY = 255
MAX_SLOTS = 1000
_DIGEST_DIGITS = 32


@dataclass(frozen=True)
class Exclusive:
    """Of the jobs that have one key, no more than `limit` run at once.

    Attributes:
        key: a text; ``{name}`` in it stands for the value of that parameter of the flow.
        limit: how many slots the key has.
        on_busy: what becomes of a post while all are taken: ``wait`` or ``refuse``.
    """

    key: str
    limit: int = 1
    on_busy: str = WAIT

    @classmethod
    def of(
        cls, flow: str, exclusive: str | None, limit: int | None, on_busy: str, parameters: Collection[str]
    ) -> Exclusive | None:
        """What `@flow` was told; None: nothing, so that any number may run.

        A limit alone is one for all jobs of the flow: their key is its name.

        Raises:
            FlowRefused: the key names what is no parameter, or one of them will not do.
        """
        if on_busy not in ON_BUSY:
            raise FlowRefused(flow, f'on_busy= takes "wait" or "refuse", not {one_line(repr(on_busy), 60)}')
        if exclusive is None and limit is None:
            if on_busy != WAIT:
                raise FlowRefused(flow, "on_busy= wants exclusive= or limit= beside it: nothing is ever busy")
            return None
        if limit is not None and (
            not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_SLOTS
        ):
            raise FlowRefused(flow, f"limit= takes a whole number of 1 to {MAX_SLOTS}, not {limit!r:.60}")
        key = flow if exclusive is None else exclusive
        try:
            wanted = _names(key)
        except ValueError as error:
            raise FlowRefused(flow, f"exclusive= {one_line(repr(key), 100)}: {error}") from error
        missing = sorted(wanted - set(parameters))
        if missing:
            raise FlowRefused(flow, f"exclusive= names {', '.join(missing)}, which is no parameter")
        return cls(key, 1 if limit is None else limit, on_busy)

    def key_for(self, params: Mapping[str, Any]) -> str:
        """The key of a job with these parameters, in their canonical form.

        A long key, or one that cannot be printed, ends in a digest in place of what is too much of it.
        """
        told = "".join(
            literal + ("" if name is None else _text(params.get(name)))
            for literal, name, _, _ in string.Formatter().parse(self.key)
        )
        if told and len(told) <= MAX_KEY and told.isprintable():
            return told
        digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
        return f"{one_line(told, MAX_KEY - _DIGEST_DIGITS - 1)}~{digest}"


def checked_key(key: object, what: str) -> str:
    """A key that is given with a post. Raises UsageError."""
    if not isinstance(key, str) or not key or len(key) > MAX_KEY or not key.isprintable():
        raise UsageError(f"{what} should be a printable text of 1 to {MAX_KEY} characters")
    return key


def checked_busy(on_busy: object) -> str:
    """`wait` or `refuse`. Raises UsageError."""
    if on_busy not in ON_BUSY:
        raise UsageError(f'on_busy should be "wait" or "refuse", not {one_line(repr(on_busy), 60)}')
    return str(on_busy)


def _names(key: object) -> set[str]:
    """The parameters that a key names. ValueError: it is no key."""
    if not isinstance(key, str) or not key or len(key) > MAX_KEY or not key.isprintable():
        raise ValueError(f"a printable text of 1 to {MAX_KEY} characters is wanted")
    found = set()
    for _, name, form, conversion in string.Formatter().parse(key):
        if name is None:
            continue
        # Not an attribute, nor an item: what is asked of a value here is its text alone.
        if not name.isidentifier() or form or conversion:
            raise ValueError("{name} takes the name of a parameter and nothing else")
        found.add(name)
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
