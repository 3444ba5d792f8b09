"""Assets: the files of `static/`, read once, each at a URL that changes when any of them does."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Path, Response
from starlette.exceptions import HTTPException

__all__ = ["asset", "assets", "router"]

router = APIRouter(include_in_schema=False)

_YEAR = "public, max-age=31536000, immutable"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@functools.cache
def assets() -> Mapping[str, bytes]:
    """The files by name."""
    folder = resources.files("ebbtide.api.page") / "static"
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


@functools.cache
def _version() -> str:
    digest = hashlib.sha256()
    for name, content in sorted(assets().items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def asset(name: str) -> str:
    """The URL of a file. KeyError: there is none of this name."""
    if name not in assets():
        raise KeyError(name)
    return f"/static/{_version()}/{name}"


@router.get("/static/{version}/{name}")
def static(version: str, name: Annotated[str, Path(max_length=100)]) -> Response:
    """A file; of another version, which an older page asks for, as it is now."""
    content = assets().get(name)
    if content is None:
        raise HTTPException(404, "Not Found")
    kind = _TYPES[name[name.rfind(".") :]]
    keep = _YEAR if version == _version() else "no-store"
    return Response(content, media_type=kind, headers={"Cache-Control": keep})
