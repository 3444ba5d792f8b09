"""What the store holds of an attempt when its run begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from taskflow import states as taskflow_states
from taskflow.persistence import models

from ebbtide.conductor.batch import WITH_RESULT
from ebbtide.conductor.begun import Row
from ebbtide.errors import ClaimLost, EbbtideError
from ebbtide.flows.policies import Policies
from ebbtide.jobs import tables
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.ledger import flow_detail_id, logbook_of
from ebbtide.jobs.store import Store
from ebbtide.tasks import payload
from ebbtide.tasks.run import How
from ebbtide.tasks.wrapping import describe

__all__ = ["StoredRun", "Unreadable", "load_run"]


@dataclass
class StoredRun:
    """TaskFlow's details and our rows of one attempt; all empty for one that never ran."""

    flow: models.FlowDetail
    flow_stored: bool
    logbook_stored: bool
    atom_ids: list[str]
    texts: dict[str, str]  # task -> JSON text of its result
    rows: list[Row]
    tasks_total: int
    undoing: bool
    interruptions: int
    rewind_to: str | None  # the savepoint to go back to before anything else
    logs: int
    set_back: set[str]  # tasks that a retry controller has set back for another round
    undo_failed: bool  # something could not be undone by an earlier run: this one tries again
    parameters: dict[str, Any]
    labels: dict[str, str]
    policies: Policies
    retries: int  # made by itself since the job was posted, or retried by hand

    @property
    def atom_names(self) -> set[str]:
        return {atom.name for atom in self.flow}


class Unreadable(Exception):
    """What is stored of a run is not what a run stores: somebody else has written there."""


def load_run(store: Store, claim: Claim) -> StoredRun:
    """Read what is stored of the claim's attempt.

    Raises:
        ClaimLost: the job has another holder already.
        Unreadable: some of it cannot be read, and never will be.
    """
    try:
        return _load_run(store, claim)
    except (EbbtideError, sa.exc.SQLAlchemyError, MemoryError):
        raise
    except Exception as error:
        # Whatever a decoder raises: all that is not the store's own trouble lies in the rows.
        raise Unreadable(f"what is stored of this run cannot be read: {describe(error)}") from error


def _load_run(store: Store, claim: Claim) -> StoredRun:
    flow = models.FlowDetail(claim.key, flow_detail_id(claim.job_id, claim.attempt))
    with store.read() as connection:
        job = connection.execute(
            sa.select(tables.jobs).where(tables.jobs.c.id == claim.job_id, tables.jobs.c.epoch == claim.epoch)
        ).first()
        if job is None:
            raise ClaimLost(claim.job_id, claim.epoch)
        book = logbook_of(claim.job_id)
        logbook_stored = connection.execute(
            sa.select(tables.logbooks.c.uuid).where(tables.logbooks.c.uuid == book)
        ).first()
        flow_stored = _load_flow(connection, flow)
        texts = _load_atoms(connection, flow) if flow_stored else {}
        rows = _load_rows(connection, claim)
        if _went_on_from_failure(connection, claim):
            _begin_again(flow, rows)
        undo_failed = _let_undo_again(flow, rows)
        posted = connection.execute(
            sa.select(tables.job_parameters).where(tables.job_parameters.c.job == claim.job_id)
        ).first()
        if posted is None:
            raise LookupError("its parameters are gone")
        of = tables.job_policies
        decided = connection.execute(sa.select(of.c.policies).where(of.c.job == claim.job_id)).scalar()
        policies = Policies.from_dict(_mapping(decided or "{}"))
    return StoredRun(
        flow=flow,
        flow_stored=flow_stored,
        logbook_stored=logbook_stored is not None,
        atom_ids=[atom.uuid for atom in flow],
        texts=texts,
        rows=rows,
        tasks_total=job.tasks_total,
        undoing=bool(job.undoing),
        interruptions=job.interruptions,
        rewind_to=job.rewind_to,
        logs=job.logs,
        set_back={atom.name for atom in flow if atom.state == taskflow_states.PENDING},
        undo_failed=undo_failed,
        parameters=_mapping(posted.parameters),
        labels=_mapping(posted.labels),
        policies=policies,
        retries=job.retries,
    )


def _mapping(text: str) -> dict[str, Any]:
    found = payload.decode(text)
    if not isinstance(found, dict):
        raise TypeError(f"parameters and labels are mappings, not {type(found).__name__}")
    return found


def _load_flow(connection: sa.Connection, flow: models.FlowDetail) -> bool:
    table = tables.taskflow_tables.flowdetails
    row = connection.execute(sa.select(table).where(table.c.uuid == flow.uuid)).first()
    if row is None:
        return False
    flow.state = row.state
    flow.meta = row.meta or {}
    return True


def _load_atoms(connection: sa.Connection, flow: models.FlowDetail) -> dict[str, str]:
    """Add the atoms to `flow`; returns the JSON texts of what tasks returned that are not undone."""
    table = tables.taskflow_tables.atomdetails
    raw = tables.atomdetails
    for row in connection.execute(sa.select(table).where(table.c.parent_uuid == flow.uuid)):
        values: dict[str, Any] = dict(row._mapping)
        detail = models.atom_detail_class(values.pop("atom_type")).from_dict(values)
        if isinstance(detail, models.RetryDetail):
            _mend_history(detail, values["results"] or [])
        flow.add(detail)
    # As text, whatever type the database keeps JSON in: the driver would decode it.
    with_results = sa.select(raw.c.name, sa.cast(raw.c.results, sa.Text).label("results")).where(
        raw.c.parent_uuid == flow.uuid,
        raw.c.state.in_(WITH_RESULT),
        raw.c.results.is_not(None),
    )
    return {row.name: row.results for row in connection.execute(with_results)}


def _let_undo_again(flow: models.FlowDetail, rows: list[Row]) -> bool:
    """Set the atoms whose undo has failed to where a runner that dies in an undo leaves them.

    For TaskFlow REVERT_FAILURE is the end: run again, the flow would be called REVERTED with all that
    was held still in place. From REVERTING it undoes the atom, and what was held after it. All tries are
    there again: an earlier run has used them up and said so.
    """
    failed = [atom for atom in flow if atom.state == taskflow_states.REVERT_FAILURE]
    for atom in failed:
        atom.state, atom.revert_failure = taskflow_states.REVERTING, None
    names = {atom.name for atom in failed}
    for row in rows:
        if row.task in names:
            row.undo_failures = 0
    return bool(failed)


def _went_on_from_failure(connection: sa.Connection, claim: Claim) -> bool:
    """Whether the job held in this attempt, and was not parked for another reason since."""
    parks = tables.job_parks
    query = sa.select(parks.c.held).where(parks.c.job == claim.job_id, parks.c.attempt == claim.attempt)
    return bool(connection.execute(query.order_by(parks.c.number.desc()).limit(1)).scalar())


def _begin_again(flow: models.FlowDetail, rows: list[Row]) -> None:
    """Set what failed, and was set back, to where a runner that dies in it leaves it: it begins again.

    What has failed since then is recorded as raised, and is no part of it.
    """
    failed = {row.task for row in rows if row.how == How.RAISED}
    for atom in flow:
        if atom.state == taskflow_states.FAILURE and atom.name not in failed:
            atom.state, atom.intention = taskflow_states.RUNNING, taskflow_states.EXECUTE
            atom.failure, atom.results = None, None


def _mend_history(detail: models.RetryDetail, stored: list[Any]) -> None:
    """Put back what a retry controller provided in each round.

    TaskFlow 6.5 loses it: `RetryDetail.from_dict` uses one variable for the value and for the last
    failure of its round, so a ForEach would begin again with its first value.
    """
    rounds = zip(stored, detail.results, strict=True)
    detail.results = [(provided, failures) for (provided, _), (_, failures) in rounds]


def _load_rows(connection: sa.Connection, claim: Claim) -> list[Row]:
    table = tables.job_tasks
    query = sa.select(*[table.c[name] for name in Row.__dataclass_fields__]).where(
        table.c.job == claim.job_id, table.c.attempt == claim.attempt
    )
    return [Row(**row._mapping) for row in connection.execute(query)]
