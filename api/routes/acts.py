"""Acts: what changes the course of a job."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ebbtide.api.answers import CancelModel, JobModel, answered, job_dict, problems
from ebbtide.api.desk import Operator
from ebbtide.api.routes.jobs import JobId
from ebbtide.jobs.states import FINAL_STATES
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


@router.post("/unpark", response_model=JobModel, responses=problems(404, 409, 415))
def unpark(desk: Operator, job_id: JobId) -> Response:
    """Let a parked job go on, once what parked it is mended."""
    return answered(job_dict(desk.unpark(job_id)))


@router.post("/accept", response_model=JobModel, responses=problems(404, 409, 413, 415, 422))
def accept(desk: Operator, job_id: JobId, body: AcceptBody) -> Response:
    """End a parked job as it is. Nothing is undone."""
    return answered(job_dict(desk.accept(job_id, body.reason)))
