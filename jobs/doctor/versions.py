"""Whether what is installed fits together."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from ebbtide import __version__
from ebbtide.jobs.doctor.finding import Finding, fine, note, wrong

__all__ = ["look"]

_SUBJECT = "versions"
# The first that knows RETURNING, which every claim uses.
_LEAST_SQLITE = (3, 35, 0)


def look() -> Iterator[Finding]:
    """The versions of Python, Ebbtide and all that it is built on."""
    try:
        wanted = [Requirement(text) for text in requires("ebbtide") or ()]
    except PackageNotFoundError:
        yield note(_SUBJECT, "ebbtide runs from a checkout", "install it to have its needs checked")
        wanted = []
    misfits = [told for each in wanted if (told := _misfit(each))]
    for told in misfits:
        yield wrong(_SUBJECT, told, 'install what fits: pip install "ebbtide" in an environment of its own')
    if sqlite3.sqlite_version_info < _LEAST_SQLITE:
        least = ".".join(map(str, _LEAST_SQLITE))
        told = f"SQLite {sqlite3.sqlite_version} is too old"
        yield wrong(_SUBJECT, told, f"use a Python with SQLite {least} or newer, or PostgreSQL")
    elif not misfits:
        yield fine(_SUBJECT, f"ebbtide {__version__} on Python {platform.python_version()}")


def _misfit(wanted: Requirement) -> str | None:
    """What is wrong with one need; None: it is met, or belongs to an extra that nobody may want."""
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return None
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is not installed; {wanted.specifier} is wanted"
    if wanted.specifier.contains(found, prereleases=True):
        return None
    return f"{wanted.name} {found} is installed; {wanted.specifier} is wanted"
