"""The HTTP API: jobs over REST, live events, and the web page.

Names are loaded when they are first asked for: FastAPI belongs to the extra `api`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebbtide.api.app import create_app

__all__ = ["create_app"]

_HOMES = {"create_app": "ebbtide.api.app"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ebbtide.api' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
