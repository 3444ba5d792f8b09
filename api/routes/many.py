"""Many: one verb for all jobs that have something in common, or are named."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ebbtide.api.answers import ManyAnswer, answered, problems
from ebbtide.api.desk import Operator
from ebbtide.jobs.many import Answer
from ebbtide.jobs.selection import Selection
from ebbtide.jobs.texts import MAX_REASON

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/jobs", tags=["many"])

_MAX_IDS = 10_000
_WholeId = Annotated[str, Field(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class SelectionBody(BaseModel):
    """Which jobs: ids, or filters that all have to fit, or everything; and whether it is only asked."""

    model_config = ConfigDict(strict=True, extra="forbid")

    ids: list[_WholeId] | None = Field(default=None, max_length=_MAX_IDS, description="Whole ids.")
    flow: str | None = Field(default=None, max_length=120)
    state: str | None = Field(default=None, max_length=20, description="A word of state or of phase.")
    labels: dict[str, str] = Field(default={}, max_length=100)
    older_than_seconds: float | None = Field(default=None, ge=0, le=1e10)
    everything: bool = Field(default=False, description="There is no filter, and that is meant.")
    dry_run: bool = Field(default=False, description="Change nothing, and tell what would be answered.")

    def selection(self) -> Selection:
        return Selection(
            ids=self.ids,
            flow=self.flow,
            state=self.state,
            labels=self.labels,
            older_than_seconds=self.older_than_seconds,
            everything=self.everything,
        )


class CancelManyBody(SelectionBody):
    """Which jobs are to be stopped and undone, and why."""

    reason: str = Field(default="", max_length=MAX_REASON)


@router.post("/cancel", response_model=ManyAnswer, responses=problems(413, 415, 422))
def cancel(desk: Operator, body: CancelManyBody) -> Response:
    """Have many jobs stopped, and what they did undone; each is answered for itself."""
    return _told(desk.cancel_many(body.selection(), body.reason, dry_run=body.dry_run))


@router.post("/retry", response_model=ManyAnswer, responses=problems(413, 415, 422))
def retry(desk: Operator, body: SelectionBody) -> Response:
    """Run many failed or cancelled jobs once more."""
    return _told(desk.retry_many(body.selection(), dry_run=body.dry_run))


@router.post("/pause", response_model=ManyAnswer, responses=problems(413, 415, 422))
def pause(desk: Operator, body: SelectionBody) -> Response:
    """Let many jobs rest: those that wait at once, those that run between tasks. Nothing is undone."""
    return _told(desk.pause_many(body.selection(), dry_run=body.dry_run))


@router.post("/resume", response_model=ManyAnswer, responses=problems(413, 415, 422))
def resume(desk: Operator, body: SelectionBody) -> Response:
    """Let many paused jobs go on where they were."""
    return _told(desk.resume_many(body.selection(), dry_run=body.dry_run))


@router.post("/delete", response_model=ManyAnswer, responses=problems(413, 415, 422))
def delete(desk: Operator, body: SelectionBody) -> Response:
    """Remove many jobs; those that have begun are cancelled and undone first."""
    return _told(desk.delete_many(body.selection(), dry_run=body.dry_run))


def _told(answers: list[Answer]) -> Response:
    return answered({"answers": [each.as_dict() for each in answers]})
