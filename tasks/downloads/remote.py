"""RemoteFile: what is to be downloaded, and as what."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from ebbtide.tasks.http import plain_url

__all__ = ["RemoteFile"]

_LONGEST_NAME = 180  # bytes; the copy that is kept of a replaced file has a longer one


@dataclass(frozen=True)
class RemoteFile:
    """A file, or a part of one, that a server has.

    Attributes:
        url: its address, http or https.
        name: the name that it gets; None: the last part of the address.
        sha256: what its content, or that of the part, has to have; None: it is not compared.
        first_byte, last_byte: the part that is wanted, both included; None: to the end.

    Raises:
        ValueError: one of them cannot be that.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    url: str
    name: str | None = None
    sha256: str | None = None
    first_byte: int = 0
    last_byte: int | None = None

    def __post_init__(self) -> None:
        plain_url(self.url)
        if not _is_name(self.file_name):
            where = "its address ends in no name that a file can have" if self.name is None else "its name"
            raise ValueError(f"should have a plain file name of at most {_LONGEST_NAME} bytes ({where})")
        if self.sha256 is not None and not re.fullmatch("[0-9A-Fa-f]{64}", self.sha256):
            raise ValueError("should have a sha256 of 64 hexadecimal digits")
        if self.first_byte < 0 or (self.last_byte is not None and self.last_byte < self.first_byte):
            raise ValueError("should have a first_byte from 0, and a last_byte that is not below it")

    @property
    def file_name(self) -> str:
        """The name that it gets."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2]) if self.name is None else self.name

    @property
    def is_part(self) -> bool:
        """Whether only a part of the file is wanted."""
        return self.first_byte > 0 or self.last_byte is not None


def _is_name(name: str) -> bool:
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        return False
    return len(os.fsencode(name)) <= _LONGEST_NAME
