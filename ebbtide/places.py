"""Where the data of a user are who says nothing else."""

import os
from collections.abc import Mapping
from pathlib import Path

from ebbtide.errors import ConfigError

__all__ = ["at_home", "default_database", "default_signal_folder"]


def default_database(environ: Mapping[str, str]) -> str:
    """The URL of the database. Raises ConfigError when there is no home directory."""
    data = _data_folder(environ)
    if data is None:
        raise ConfigError("database is not given, and there is no home directory to keep it in")
    return f"sqlite:///{data / 'ebbtide.db'}"


def default_signal_folder(environ: Mapping[str, str]) -> str:
    """The folder of cancel requests; empty when there is no home directory."""
    data = _data_folder(environ)
    return "" if data is None else str(data / "cancellations")


def at_home(path: str, environ: Mapping[str, str]) -> str:
    """The path with a leading ``~`` as the home directory, also where no shell has put that in."""
    home = environ.get("HOME")
    if home and (path == "~" or path.startswith("~/")):
        return home + path[1:]
    return os.path.expanduser(path)


def _data_folder(environ: Mapping[str, str]) -> Path | None:
    """Where the user's own data are; None: there is no home directory."""
    # The specification of XDG has relative paths ignored.
    data = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):
        home = environ.get("HOME") or os.path.expanduser("~")
        data = os.path.join(home, ".local", "share")
    return Path(data, "ebbtide") if os.path.isabs(data) else None
