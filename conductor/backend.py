"""TaskFlow's persistence of one run: what its storage writes goes into the journal's memory."""

from __future__ import annotations

from taskflow import storage as taskflow_storage
from taskflow.persistence import models

from ebbtide.conductor.journal import Journal

__all__ = ["Backend", "Storage"]


class Backend:
    """Backend and connection in one. Nothing is stored here: the journal does that, at its barriers."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def get_connection(self) -> Backend:
        return self

    def close(self) -> None:
        pass

    def update_flow_details(self, flow: models.FlowDetail) -> models.FlowDetail:
        self._journal.change_flow(flow)
        return flow

    def update_atom_details(self, atom: models.AtomDetail) -> models.AtomDetail:
        self._journal.change_atom(atom)
        return atom


class Storage(taskflow_storage.Storage):  # type: ignore[misc]  # taskflow is untyped
    """TaskFlow's own, without its repeating of writes that failed: one into memory does not."""

    def _save_flow_detail(
        self, backend: Backend, before: models.FlowDetail, changed: models.FlowDetail
    ) -> models.FlowDetail:
        before.update(backend.update_flow_details(changed))
        return before

    def _save_atom_detail(
        self, backend: Backend, before: models.AtomDetail, changed: models.AtomDetail
    ) -> models.AtomDetail:
        before.update(backend.update_atom_details(changed))
        return before
