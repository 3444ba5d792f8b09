"""Whether the store can be used, and keeps what it has said it keeps."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import sqlalchemy as sa

from ebbtide.errors import EbbtideError
from ebbtide.jobs.doctor import databasefile
from ebbtide.jobs.doctor.finding import Finding, fine, note, wrong
from ebbtide.jobs.schema import SchemaState, check_store, mismatch
from ebbtide.jobs.sqlite import Sqlite
from ebbtide.jobs.store import Store

__all__ = ["look"]

_SUBJECT = "store"
# What an answered post, or an accepted cancel, relies on.
_DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
_ADVICE = {
    SchemaState.OLDER: "stop the conductors, then: ebbtide db upgrade",
    SchemaState.NEWER: "install the newer ebbtide here as well",
    SchemaState.FOREIGN: "name a database of Ebbtide's own in the option database",
}


def look(store: Store) -> Generator[Finding, None, bool]:
    """Its tables, and what is special about its kind. Returns whether it can be used as it is."""
    try:
        report = check_store(store)
    except EbbtideError as error:
        yield wrong(_SUBJECT, str(error), "mend that, or name another database in the option database")
        return False
    if report.state in _ADVICE:
        yield wrong(_SUBJECT, str(mismatch(report)), _ADVICE[report.state])
    elif report.state is SchemaState.EMPTY:
        yield fine(_SUBJECT, f"{report.url} is made when it is first used")
    else:
        yield fine(_SUBJECT, f"{report.url}, schema {report.found}")
    if isinstance(store.dialect, Sqlite):
        yield from databasefile.look(store.dialect.path)
    else:
        yield from _server(store)
    return report.state is SchemaState.CURRENT


def _server(store: Store) -> Iterator[Finding]:
    with store.read() as connection:
        lax = [name for name in _DURABLE if connection.scalar(sa.text(f"SHOW {name}")) == "off"]
        superuser = connection.scalar(sa.text("SHOW is_superuser")) == "on"
        plain = connection.execute(_PLAIN_AND_FAR).scalar()
    if lax:
        told = f"the server has {' and '.join(lax)} off: what was answered may be lost with its machine"
        yield wrong(_SUBJECT, told, f"set {', '.join(lax)} to on in postgresql.conf")
    if superuser:
        told = "Ebbtide connects as a superuser"
        yield note(_SUBJECT, told, "use a role with no more rights than docs/postgresql.md gives it")
    if plain:
        told = "jobs and passwords go to the server unencrypted"
        yield wrong(_SUBJECT, told, "add ?sslmode=verify-full to the option database")


# A socket, or the server's own loopback, is nobody else's wire.
_PLAIN_AND_FAR = sa.text(
    "SELECT NOT ssl AND inet_client_addr() IS NOT NULL AND inet_client_addr() <> inet_server_addr() "
    "FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
)
