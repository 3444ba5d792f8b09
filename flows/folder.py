"""Folder: a parameter that is the path of a folder."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

__all__ = ["Folder"]


def _refuse_no_path(value: Any) -> Any:
    if value == "":
        raise ValueError("should not be empty")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("should be a path, which holds no NUL character")
    return value


# A relative path is taken from the current folder of whoever posts: the one who runs it has another.
Folder = Annotated[Path, BeforeValidator(_refuse_no_path), AfterValidator(Path.absolute)]
