"""The client of the HTTP API, with the names of a poster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebbtide.api.client.asyncposter import AsyncRemotePoster
    from ebbtide.api.client.poster import RemotePoster

__all__ = ["AsyncRemotePoster", "RemotePoster"]

_MODULES = {"AsyncRemotePoster": "asyncposter", "RemotePoster": "poster"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ebbtide.api.client' has no attribute {name!r}")
    value = getattr(import_module(f"ebbtide.api.client.{_MODULES[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value
