"""What the tests of the shipped flows look at from outside."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def contents(folder: Path) -> dict[str, Any]:
    """What stands below a folder: bytes of files, words of links, None for folders."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


@pytest.fixture(name="contents")
def _contents() -> Callable[[Path], dict[str, Any]]:
    return contents
