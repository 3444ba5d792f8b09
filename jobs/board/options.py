"""What the configuration of a board says: checked when the board is made, before anything is connected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.config import load_settings
from ebbtide.errors import ConfigError
from ebbtide.jobs.urls import as_text, normalise
from ebbtide.wording import one_line

__all__ = ["BoardOptions"]

# What TaskFlow puts there by itself: the driver's name, and the parts of a URI.
_OF_TASKFLOW = frozenset({"board", "hostname", "port", "username", "password"})
_LEAST_EXPIRY_SECONDS = 1.0


@dataclass(frozen=True)
class BoardOptions:
    """The configuration of one board.

    Attributes:
        connection: URL of the database, as Ebbtide's option `database` takes it.
        namespace: boards of one namespace in one database are one board.
        expiry: seconds after which the claims of an owner that has died are free again.
        poll: seconds between two looks at what others have posted or removed.
        patience: seconds for which a database that is away is waited for, once a job is to leave the board.
    """

    connection: str
    namespace: str = "taskflow"
    expiry: float = 30.0
    poll: float = 0.5
    patience: float = 15.0

    @classmethod
    def of(cls, conf: Mapping[str, Any]) -> BoardOptions:
        """The options that `conf` gives; numbers may be texts, as they are in a URI.

        Raises:
            ConfigError: a name is not known, or a value cannot be used.
        """
        given = {name: value for name, value in conf.items() if name not in _OF_TASKFLOW}
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise ConfigError(f"board sql has no option {one_line(unknown[0], 40)}; known: {known}")
        for name in ("expiry", "poll", "patience"):
            if name in given:
                given[name] = _seconds(name, given[name])
        options = cls(**({"connection": load_settings().database} | given))
        if not isinstance(options.namespace, str) or not options.namespace:
            raise ConfigError("namespace of board sql should be a name")
        if options.expiry < _LEAST_EXPIRY_SECONDS:
            raise ConfigError(f"expiry of board sql should be {_LEAST_EXPIRY_SECONDS:g} seconds or more")
        normal = as_text(normalise(str(options.connection)))
        return cls(normal, options.namespace, options.expiry, options.poll, options.patience)


def _seconds(name: str, value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]  # what is no number is told below
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(value, bool) or not 0 < seconds < math.inf:
        raise ConfigError(f"{name} of board sql should be a number of seconds, not {one_line(value, 40)}")
    return seconds
