"""The page of one job: how far it is, in pictures and in words, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from ebbtide.api.desk import Viewer
from ebbtide.api.graph import graph_of
from ebbtide.api.page.drawing import draw_graph
from ebbtide.api.page.masking import masked, shown_json
from ebbtide.api.page.printing import printed
from ebbtide.api.page.steps import latest, sentence, steps_of, undo_order
from ebbtide.api.page.taskrows import task_rows
from ebbtide.api.page.timeline import timeline
from ebbtide.api.routes.jobs import JobId
from ebbtide.errors import FlowNotFound
from ebbtide.jobs import Job, Poster, TaskRecord, clock
from ebbtide.jobs.receipt import Receipt
from ebbtide.jobs.states import JobState

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_ENTRIES = 300
_LINES = 200


@router.get("/jobs/{job_id}")
def job(
    request: Request,
    desk: Viewer,
    job_id: JobId,
    attempt: Annotated[int | None, Query(ge=1, le=10**9)] = None,
) -> Response:
    """One job as it stands."""
    return printed(request, "job.html", **_facts(desk, desk.show(job_id), attempt))


def _facts(desk: Poster, job: Job, attempt: int | None) -> dict[str, Any]:
    """All that the page shows. The job is read first: what it has come to is among what is read after it."""
    shown = min(attempt or job.attempt, job.attempt)
    records = desk.tasks(job.id, shown)
    rounds = latest(records)
    now = clock.wall()
    order = undo_order(rounds)
    graph = graph_of(desk, job.id) if shown == job.attempt else None
    entries = desk.entries(job.id)
    receipt = desk.receipt(job.id) if shown == job.attempt else None
    return {
        "job": job,
        "attempt": shown,
        "sentence": sentence(job, rounds),
        "choices": desk.choices(job.id),
        "steps": steps_of(job, rounds) if shown == job.attempt else (),
        # What it is made of is escaped where it is drawn.
        "drawing": Markup(draw_graph(graph, order)) if graph and graph["tasks"] else None,
        "backwards": graph is not None and graph["backwards"],
        "timeline": timeline(rounds, now),
        "tasks": task_rows(job, records, _never_begun(graph, records), order, now),
        "entries": entries[-_ENTRIES:],
        "entries_left_out": max(len(entries) - _ENTRIES, 0),
        "lines": desk.tail(job.id, _LINES),
        "params": masked(job.params, _schema(desk, job)),
        "result": shown_json(desk.result(job.id)) if _has_result(job, shown) else None,
        "receipt": receipt if receipt is not None and _tells(receipt) else None,
    }


def _never_begun(graph: Mapping[str, Any] | None, records: Sequence[TaskRecord]) -> list[str]:
    begun = {record.task for record in records}
    return [task["name"] for task in graph["tasks"] if task["name"] not in begun] if graph else []


def _schema(desk: Poster, job: Job) -> Mapping[str, Any] | None:
    try:
        return desk.catalogue.get(job.flow, job.version).parameters
    except FlowNotFound:
        return None


def _has_result(job: Job, attempt: int) -> bool:
    return job.state == JobState.COMPLETED and attempt == job.attempt


def _tells(receipt: Receipt) -> bool:
    return bool(receipt.cancel or receipt.undone or receipt.not_undone)
