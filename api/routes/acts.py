"""Acts: what changes the course of a job."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ebbtide.api.answers import (
    AnswerModel,
    CancelModel,
    JobModel,
    SavepointsAnswer,
    answered,
    job_dict,
    problems,
)
from ebbtide.api.desk import Operator, Viewer
from ebbtide.api.routes.jobs import JobId
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.texts import MAX_REASON

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/jobs/{job_id}", tags=["acts"])


class CancelBody(BaseModel):
    """Why a job is to be stopped and undone."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: str = Field(default="", max_length=MAX_REASON)


class RetryBody(BaseModel):
    """How a job is to be run once more."""

    model_config = ConfigDict(strict=True, extra="forbid")

    from_failure: bool = Field(
        default=False, description="Go on at the task that failed: of a job that holds."
    )


class RewindBody(BaseModel):
    """To where a job is to go back."""

    model_config = ConfigDict(strict=True, extra="forbid")

    savepoint: str = Field(min_length=1, max_length=255)


class UnparkBody(BaseModel):
    """Whose undo is left out, and why: what that task did stays."""

    model_config = ConfigDict(strict=True, extra="forbid")

    skip: str | None = Field(default=None, max_length=255, description="The name of a task.")
    reason: str = Field(default="", max_length=MAX_REASON)


class AcceptBody(BaseModel):
    """Why a parked job may stay as it is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: str = Field(min_length=1, max_length=MAX_REASON)


@router.post(
    "/cancel",
    status_code=202,
    response_model=CancelModel,
    responses={200: {"model": CancelModel}, **problems(404, 409, 413, 415, 422)},
)
def cancel(desk: Operator, job_id: JobId, body: CancelBody | None = None) -> Response:
    """Have a job stopped, and what it did undone. The request is stored once this is answered.

    202: accepted, and being undone. 200: cancelled at once, since nothing had begun, or requested before; the
    first reason stays. 409: it has completed or failed already.
    """
    answer = desk.cancel(job_id, body.reason if body else "")
    at_once = answer.job.state in FINAL_STATES
    told = {**job_dict(answer.job), "answer": answer.answer}
    return answered(told, 202 if answer.answer == "accepted" and not at_once else 200)


@router.post("/retry", response_model=JobModel, responses=problems(404, 409, 413, 415, 422))
def retry(desk: Operator, job_id: JobId, body: RetryBody | None = None) -> Response:
    """Run a failed or cancelled job once more: same id, next attempt."""
    return answered(job_dict(desk.retry(job_id, from_failure=bool(body and body.from_failure))))


@router.post(
    "/pause",
    status_code=202,
    response_model=AnswerModel,
    responses={200: {"model": AnswerModel}, **problems(404, 409, 413, 415)},
)
def pause(desk: Operator, job_id: JobId) -> Response:
    """Let a job rest: one that waits at once (200), a running one between tasks (202). Nothing is undone."""
    answer = desk.pause(job_id)
    told = {**job_dict(answer.job), "answer": answer.answer}
    return answered(told, 200 if answer.job.state == JobState.PAUSED else 202)


@router.post("/resume", response_model=JobModel, responses=problems(404, 409, 413, 415))
def resume(desk: Operator, job_id: JobId) -> Response:
    """Let a paused job go on where it was."""
    return answered(job_dict(desk.resume(job_id)))


@router.post(
    "/rewind", status_code=202, response_model=AnswerModel, responses=problems(404, 409, 413, 415, 422)
)
def rewind(desk: Operator, job_id: JobId, body: RewindBody) -> Response:
    """Have what came after a savepoint undone, newest first; then the job is paused."""
    answer = desk.rewind(job_id, body.savepoint)
    return answered({**job_dict(answer.job), "answer": answer.answer}, 202)


@router.get("/savepoints", response_model=SavepointsAnswer, responses=problems(404))
def savepoints(desk: Viewer, job_id: JobId) -> Response:
    """To what a job can be rewound, in the order in which it came to them."""
    return answered({"savepoints": desk.savepoints(job_id)})


@router.post("/unpark", response_model=JobModel, responses=problems(404, 409, 413, 415, 422))
def unpark(desk: Operator, job_id: JobId, body: UnparkBody | None = None) -> Response:
    """Let a parked job go on, once what parked it is mended; the undo of `skip` is left out."""
    body = body or UnparkBody()
    return answered(job_dict(desk.unpark(job_id, skip=body.skip, reason=body.reason)))


@router.post("/accept", response_model=JobModel, responses=problems(404, 409, 413, 415, 422))
def accept(desk: Operator, job_id: JobId, body: AcceptBody) -> Response:
    """End a parked job as it is. Nothing is undone."""
    return answered(job_dict(desk.accept(job_id, body.reason)))
