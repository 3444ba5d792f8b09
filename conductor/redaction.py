"""Redactor: keeps the secrets of a run out of texts that are stored, logged or shown."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, quote_plus

__all__ = ["SHORTEST", "Redactor", "any_active", "redact_active"]

SHORTEST = 4
"""Characters of the shortest text that is hidden. Shorter ones are everywhere."""

_HIDDEN = "***"
# The lines around a key or certificate in a file are no secret.
_ARMOUR = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]+-----")
_LOWER = re.compile("%[0-9A-F]{2}")
_ESCAPES: tuple[Callable[[str], str], ...] = (
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: repr(text)[1:-1],
    lambda text: repr(text + '"')[1:-2],  # as within a text that holds both kinds of quotes
    lambda text: ascii(text)[1:-1],
    lambda text: repr(text.encode())[2:-1],
    lambda text: _LOWER.sub(lambda found: found[0].lower(), quote(text)),
    lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    quote,
    lambda text: quote(text, safe=""),
    quote_plus,
)

_active: tuple[Redactor, ...] = ()
_changing = threading.Lock()


class Redactor:
    """Knows the secrets of one run by their references. Safe to use from any thread.

    A secret is found as it stands, each line of it by itself, and as JSON, Python and URLs escape
    it (twice, for JSON within JSON); not where somebody cut it or encoded it otherwise.
    """

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        """`secrets`: reference -> plain text."""
        self._references = {
            form: reference for reference, text in (secrets or {}).items() for form in _forms(text)
        }
        self.longest = max(map(len, self._references), default=0)

    def redact(self, text: str, limit: int | None = None) -> str:
        """`text` with every secret as ``***``.

        Args:
            limit: only so many characters, from the beginning, are wanted; what is returned may have a few
                more. To cut before would leave the first part of a secret that reaches beyond the cut.
        """
        if limit is not None:
            text = text[: limit + self.longest]
        hidden = self._hidden(text, limit)
        while hidden != text:
            # What stood left and right of a secret may have become one. Each time the text is shorter.
            text, hidden = hidden, self._hidden(hidden)
        return hidden

    def found(self, text: str) -> str | None:
        """The reference of a secret that is in `text`, if one is."""
        return next((reference for form, reference in self._references.items() if form in text), None)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Meanwhile `redact_active` hides these secrets: they are in this process."""
        global _active
        if not self._references:
            yield
            return
        with _changing:
            _active = (*_active, self)
        try:
            yield
        finally:
            with _changing:
                _active = tuple(each for each in _active if each is not self)

    def _hidden(self, text: str, limit: int | None = None) -> str:
        kept: list[str] = []
        end = 0
        for start, after in self._spans(text):
            if limit is not None and start >= limit:
                break
            kept += [text[end:start], _HIDDEN]
            end = after
        return "".join([*kept, text[end:limit]])

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where secrets begin and end in `text`, in order; those that overlap or touch as one."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(span for form in self._references for span in _occurrences(form, text)):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged


def any_active() -> bool:
    """Whether `redact_active` has anything to hide."""
    return bool(_active)


def redact_active(text: str) -> str:
    """`text` without the secrets of any run that goes on in this process."""
    for redactor in _active:
        text = redactor.redact(text)
    return text


def _forms(secret: str) -> set[str]:
    """Every text by which the secret is recognised."""
    lines = {line.strip() for line in (*secret.splitlines(), *secret.split("\n"))}
    forms = {secret, *(line for line in lines if not _ARMOUR.fullmatch(line))}
    forms = {form for form in forms if len(form) >= SHORTEST}
    for _ in range(2):
        forms |= {escape(form) for form in forms for escape in _ESCAPES}
    return forms


def _occurrences(form: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + 1)
