"""The catalogue: the flows that conductors run, published with their schema for those who post."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ebbtide.flows.published import PublishedFlow, PublishedFlows
from ebbtide.jobs import clock, tables
from ebbtide.jobs.store import Store

if TYPE_CHECKING:
    from ebbtide.flows.definition import FlowDefinition

__all__ = ["Catalogue"]

_flows = tables.published_flows


# As text, since both databases know it and SQLAlchemy has a statement of each kind only.
_UPSERT = sa.text(
    "INSERT INTO published_flows (name, version, about, published_at)"
    " VALUES (:name, :version, :about, :published_at)"
    " ON CONFLICT (name, version) DO UPDATE SET about = excluded.about, published_at = excluded.published_at"
)


class Catalogue:
    """What conductors have published. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def publish(self, definitions: Iterable[FlowDefinition]) -> None:
        """Store how these flows are posted. The newest description of a name@version stays."""
        flows = [PublishedFlow.of(definition) for definition in definitions]
        with self._store.write() as connection:
            for each in flows:
                told = {"about": json.dumps(each.as_dict()), "published_at": clock.wall()}
                connection.execute(_UPSERT, {"name": each.name, "version": each.version, **told})

    def flows(self) -> list[PublishedFlow]:
        """All flows, by name, older versions first."""
        with self._store.read() as connection:
            return [_flow(row) for row in connection.execute(sa.select(_flows).order_by(*_flows.primary_key))]

    def get(self, name: str, version: int | None = None) -> PublishedFlow:
        """The flow ``name`` or ``name@version``; without a version the newest. Raises FlowNotFound."""
        return PublishedFlows(self.flows()).get(name, version)


def _flow(row: sa.Row[Any]) -> PublishedFlow:
    return PublishedFlow.from_dict(json.loads(row.about))
