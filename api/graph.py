"""The graph of a job: its tasks with their states, forwards and backwards."""

from __future__ import annotations

from typing import Any

from ebbtide.jobs import Job, Poster, TaskRecord

__all__ = ["graph_of", "state_of"]

_ENDED = {"returned": "done", "raised": "failed"}


def graph_of(desk: Poster, job_id: str) -> dict[str, Any]:
    """The present attempt as it stands. What the flow's shape does not tell yet comes from its history."""
    job = desk.show(job_id)
    records = {record.task: record for record in desk.tasks(job.id, job.attempt)}  # the latest round wins
    shape = desk.graph(job.id) or {"tasks": [], "links": []}
    kinds = {task["name"]: task["kind"] for task in shape["tasks"]}
    names = [*kinds, *(name for name in records if name not in kinds)]
    return {
        "attempt": job.attempt,
        "backwards": _goes_back(job),
        "tasks": [
            {
                "name": name,
                "kind": kinds.get(name, "task"),
                "state": state_of(job, records.get(name)),
                "fraction": records[name].fraction if name in records else None,
            }
            for name in names
        ],
        "links": shape["links"],
    }


def _goes_back(job: Job) -> bool:
    """Whether it is being undone, or was at last; one that was rewound goes forwards again."""
    if job.phase in ("cancelling", "overdue", "reverting"):
        return True
    return job.tasks_undone > 0 and job.phase not in ("pending", "running", "completed")


def state_of(job: Job, record: TaskRecord | None) -> str:
    """The state of a task, by its record of the latest round; None: it has not begun."""
    if record is None:
        return "pending"
    if record.undo_ended_at is not None:
        return "undone"
    if record.undo_error is not None:
        return "stuck"
    if record.undo_begun_at is not None:
        return "undoing"
    if record.ended_at is None:
        return "running" if job.state == "running" else "interrupted"
    return _ENDED.get(record.how or "", record.how or "done")
