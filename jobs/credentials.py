"""Credentials: who may use the API. What a person is shown once is stored as its SHA-256 alone."""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import TokenNotFound, UsageError
from ebbtide.jobs import clock, tables
from ebbtide.jobs.records import Record
from ebbtide.jobs.store import Store
from ebbtide.jobs.texts import MAX_WHO, checked_text

__all__ = ["Credential", "Credentials", "Kind", "Role"]

LOGIN_SECONDS = 600.0
SESSION_SECONDS = 12 * 3600.0
MAX_LIFE_SECONDS = 10 * 365 * 86400.0
# How exactly it is known when a credential was last used: more often would be a write for each request.
_USED_SECONDS = 60.0
_LONGEST = 200

_rows = tables.credentials


class Role(enum.StrEnum):
    """What somebody may do, each with all of the one before."""

    VIEWER = "viewer"  # look
    OPERATOR = "operator"  # post, cancel, retry, and whatever else changes a job
    ADMIN = "admin"  # everybody's jobs, and who else may use the API

    def covers(self, other: Role) -> bool:
        """Whether this role may do what `other` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


class Kind(enum.StrEnum):
    """What a credential is for. Its value is the prefix of its secret."""

    TOKEN = "ebt"  # programs
    SESSION = "ebs"  # a browser, in its cookie
    LOGIN = "ebl"  # a URL that opens one session


@dataclass(frozen=True)
class Credential(Record):
    """Somebody who may use the API. Times are unix seconds; `jobs_of` None: everybody's jobs."""

    id: str
    kind: str
    name: str
    role: str
    jobs_of: str | None
    created_at: float
    expires_at: float | None
    used_at: float | None


class Credentials:
    """Tokens, sessions and logins of one store. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self,
        name: str,
        role: Role,
        *,
        jobs_of: str | None = None,
        seconds: float | None = None,
        kind: Kind = Kind.TOKEN,
    ) -> tuple[str, Credential]:
        """Store a new credential; returns its secret, which nobody can be told again, and the record.

        Args:
            name: whom the history names; several may have one name, to replace an older one by a newer.
            jobs_of: whose jobs it is about; None: everybody's.
            seconds: how long it lasts; None: until it is revoked.

        Raises:
            UsageError: a text or the time cannot be used.
        """
        name = _checked_name(name, "the name of a credential")
        jobs_of = None if jobs_of is None else _checked_name(jobs_of, "whose jobs it is about")
        if seconds is not None and not 0 < seconds <= MAX_LIFE_SECONDS:
            raise UsageError("a credential lasts more than 0 seconds and at most ten years")
        values = {"name": name, "role": Role(role).value, "jobs_of": jobs_of}
        with self._store.write() as connection:
            connection.execute(sa.delete(_rows).where(_rows.c.expires_at < clock.wall()))
            return _insert(connection, kind, values, seconds)

    def tokens(self) -> list[Credential]:
        """The tokens, oldest first; of one that has expired, until the next is created."""
        query = sa.select(_rows).where(_rows.c.kind == Kind.TOKEN.value).order_by(_rows.c.created_at)
        with self._store.read() as connection:
            return [_credential(row) for row in connection.execute(query)]

    def revoke(self, token_id: str) -> None:
        """Remove a token, and the sessions that were opened with it.

        Raises:
            TokenNotFound: there is no such token.
        """
        with self._store.write() as connection:
            of = sa.and_(_rows.c.id == token_id, _rows.c.kind == Kind.TOKEN.value)
            if connection.execute(sa.delete(_rows).where(of)).rowcount == 0:
                raise TokenNotFound(token_id)
            connection.execute(sa.delete(_rows).where(_rows.c.parent == token_id))

    def holder(self, secret: str, *kinds: Kind) -> Credential | None:
        """Whose secret this is; None: it is none of these kinds, has expired or was revoked."""
        if not _has_form(secret, kinds):
            return None
        digest = _digest(secret)
        with self._store.read() as connection:
            row = connection.execute(sa.select(_rows).where(_rows.c.digest == digest)).first()
        # The index has compared already; this comparison takes the same time whatever differs.
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        now = clock.wall()
        if row.kind not in kinds or (row.expires_at is not None and row.expires_at <= now):
            return None
        if row.used_at is None or row.used_at <= now - _USED_SECONDS:
            with self._store.write() as connection:
                connection.execute(sa.update(_rows).where(_rows.c.id == row.id).values(used_at=now))
        return _credential(row)

    def living(self, ids: Iterable[str]) -> set[str]:
        """Those of these credentials that may still be used."""
        query = sa.select(_rows.c.id).where(
            _rows.c.id.in_(list(ids)),
            sa.or_(_rows.c.expires_at.is_(None), _rows.c.expires_at > clock.wall()),
        )
        with self._store.read() as connection:
            return set(connection.scalars(query))

    def open_session(self, secret: str) -> tuple[str, Credential] | None:
        """A session for whoever holds this token, or this login, which is used up by it.

        None: it is neither, has expired, was revoked or used. The session ends with its token.
        """
        if not _has_form(secret, (Kind.TOKEN, Kind.LOGIN)):
            return None
        now = clock.wall()
        live = sa.and_(
            _rows.c.digest == _digest(secret),
            sa.or_(_rows.c.expires_at.is_(None), _rows.c.expires_at > now),
        )
        with self._store.write() as connection:
            row = connection.execute(sa.select(_rows).where(live).with_for_update()).first()
            if row is None or row.kind == Kind.SESSION.value:
                return None
            values = {"name": row.name, "role": row.role, "jobs_of": row.jobs_of}
            seconds = SESSION_SECONDS
            if row.kind == Kind.LOGIN.value:
                connection.execute(sa.delete(_rows).where(_rows.c.id == row.id))
            else:
                values["parent"] = row.id
                seconds = min(seconds, (row.expires_at or now + seconds) - now)
            return _insert(connection, Kind.SESSION, values, seconds)

    def close_session(self, secret: str) -> None:
        """End the session of this secret. May be called twice."""
        with self._store.write() as connection:
            same = sa.and_(_rows.c.digest == _digest(secret), _rows.c.kind == Kind.SESSION.value)
            connection.execute(sa.delete(_rows).where(same))


def _insert(
    connection: sa.Connection, kind: Kind, values: dict[str, Any], seconds: float | None
) -> tuple[str, Credential]:
    secret = f"{kind.value}_{secrets.token_urlsafe(32)}"
    now = clock.wall()
    facts = {
        "id": str(uuid.uuid4()),
        "kind": kind.value,
        "created_at": now,
        "expires_at": None if seconds is None else now + seconds,
        "used_at": None,
        **values,
    }
    row = connection.execute(sa.insert(_rows).values(digest=_digest(secret), **facts).returning(_rows)).one()
    return secret, _credential(row)


def _digest(secret: str) -> str:
    # It has 256 random bits: nothing is gained by a slow hash.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _has_form(secret: str, kinds: tuple[Kind, ...]) -> bool:
    """Whether it can be a secret of one of these kinds: what cannot is not even looked for."""
    return len(secret) <= _LONGEST and secret.partition("_")[0] in {kind.value for kind in kinds}


def _checked_name(name: str, what: str) -> str:
    checked = checked_text(name, what, MAX_WHO)
    if not checked:
        raise UsageError(f"{what} is empty")
    return checked


def _credential(row: sa.Row[Any]) -> Credential:
    return Credential(**{name: getattr(row, name) for name in Credential.__dataclass_fields__})
