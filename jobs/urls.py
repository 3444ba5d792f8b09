"""Database URLs as users write them, and the one form that the rest of the package sees."""

import os

from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from ebbtide.errors import ConfigError
from ebbtide.wording import hide_password, one_line

_SQLITE = "sqlite:///"
_POSTGRESQL = "postgresql+psycopg2"
# SQLAlchemy takes a bare postgresql:// for the driver psycopg 3, and it is psycopg2 that comes with us.
_POSTGRESQL_NAMES = ("postgres", "postgresql", _POSTGRESQL)
_FORMS = "write sqlite:///FILE, sqlite:////ABSOLUTE/FILE, a path, or postgresql://USER@HOST/DATABASE"


def normalise(text: str) -> URL:
    """The URL that `text` means: SQLite paths absolute, PostgreSQL with its driver named.

    A file's path is taken as it stands, `%` included. Raises ConfigError for anything that is not one of
    `_FORMS`, and for databases in memory. Touches no file.
    """
    if text.startswith(_SQLITE):
        return _sqlite(text.removeprefix(_SQLITE))
    scheme, separator, _ = text.partition("://")
    if separator and scheme in _POSTGRESQL_NAMES:
        return _postgresql(text)
    if text == "sqlite://":
        return _sqlite("")
    if separator or text.startswith(("sqlite:", "file:")):
        raise ConfigError(f"database '{_shown(text)}' cannot be used: {_FORMS}")
    return _sqlite(text)


def as_text(url: URL) -> str:
    """The text that `normalise` makes this URL of, with its password."""
    # SQLAlchemy would escape a `%` here, in some versions.
    if url.drivername == "sqlite":
        return f"{_SQLITE}{url.database}"
    return url.render_as_string(hide_password=False)


def _sqlite(path: str) -> URL:
    if path in ("", ":memory:"):
        # Poster, conductor and runners are processes of their own: each would see another database.
        raise ConfigError("a database in memory cannot be shared by processes: name a file, sqlite:///FILE")
    if "?" in path or "\0" in path:
        raise ConfigError(f"database file '{_shown(path)}' cannot be used: it may hold no '?' and no NUL")
    if path.rpartition("/")[2] in ("", ".", ".."):
        raise ConfigError(f"database '{_shown(path)}' is a folder: name a file in it")
    return URL.create("sqlite", database=os.path.abspath(os.path.expanduser(path)))


def _postgresql(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise ConfigError(f"database '{_shown(text)}' cannot be used: {_FORMS}") from error
    try:
        parse_dsn(url.set(drivername="postgresql").render_as_string(hide_password=False))
    except ProgrammingError as error:  # an option after the `?` that libpq does not know
        raise ConfigError(f"database '{_shown(text)}' cannot be used: {one_line(error)}") from error
    return url.set(drivername=_POSTGRESQL)


def _shown(text: str) -> str:
    return one_line(hide_password(text), 120)
