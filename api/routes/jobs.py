"""Jobs: post, list, look at one, delete it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ebbtide.api.answers import (
    ChunksAnswer,
    CountsAnswer,
    DeleteAnswer,
    EntriesAnswer,
    GraphAnswer,
    JobModel,
    JobsAnswer,
    LogsAnswer,
    PreviewModel,
    ReceiptModel,
    ResultAnswer,
    TasksAnswer,
    answered,
    job_dict,
    problems,
    row_dict,
)
from ebbtide.api.desk import Operator, Viewer
from ebbtide.api.graph import graph_of
from ebbtide.api.problems import ApiError
from ebbtide.flows.policies import Limits, OnFailure, RetryPolicy
from ebbtide.jobs.browsing import MAX_PAGE, MAX_TEXT
from ebbtide.jobs.posting import WishesByName
from ebbtide.jobs.verbs import ACCEPTED, DELETED

__all__ = ["Filters", "JobId", "router"]

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])

_ID = "^[0-9a-fA-F-]{1,36}$"
_MAX_NUMBER = 2**53


def _job_id(
    job_id: Annotated[str, Path(description="The id of a job, or the beginning of one.", pattern=_ID)],
) -> str:
    return job_id


JobId = Annotated[str, Depends(_job_id)]
After = Annotated[int, Query(ge=0, le=_MAX_NUMBER, description="Only what comes after this number.")]


class RetryModel(BaseModel):
    """When a job that failed is tried again by itself."""

    model_config = ConfigDict(strict=True, extra="forbid")

    attempts: int = Field(default=1, ge=1, le=1000)
    interval_seconds: float = Field(default=60.0, ge=0, le=31_536_000)
    factor: float = Field(default=2.0, ge=1, le=10)
    jitter: float = Field(default=0.1, ge=0, le=1)
    cap_seconds: float = Field(default=3600.0, ge=0, le=31_536_000)
    errors: list[str] = Field(default=[], max_length=100, description="Names of exception classes.")


class LimitsModel(BaseModel):
    """How long a job may take."""

    model_config = ConfigDict(strict=True, extra="forbid")

    job_seconds: float | None = Field(default=None, ge=0.001, le=31_536_000)
    no_progress_seconds: float | None = Field(default=None, ge=0.001, le=31_536_000)


class PostBody(BaseModel):
    """A job to be posted."""

    model_config = ConfigDict(strict=True, extra="forbid")

    flow: str = Field(min_length=1, max_length=120, description="A flow's name, or name@version.")
    params: dict[str, Any] = Field(default={}, description="By the schema of the flow.")
    version: int | None = Field(default=None, ge=1, le=10**9)
    labels: dict[str, str] = Field(default={}, max_length=100, description="To find it by.")
    priority: int = Field(default=0, ge=-1000, le=1000, description="Higher numbers are claimed first.")
    delay_seconds: float = Field(default=0.0, ge=0, le=315_360_000, description="Claim it no sooner.")
    retry: RetryModel | None = Field(default=None, description="Instead of what the flow says.")
    limits: LimitsModel | None = Field(default=None, description="Instead of what the flow says.")
    on_failure: OnFailure | None = Field(default=None, description="Instead of what the flow says.")
    at: AwareDatetime | None = Field(
        default=None, strict=False, description="Claim it no sooner than then, a moment with a zone."
    )
    exclusive: str | None = Field(default=None, min_length=1, max_length=255)
    on_busy: Literal["wait", "refuse"] | None = Field(default=None, description="While the key is taken.")
    parent: str | None = Field(default=None, pattern=_ID, description="By whose cancel it is cancelled.")
    detached: bool = Field(default=False, description="The parent is only noted.")


class Filters(BaseModel):
    """Which jobs; all of it must fit."""

    model_config = ConfigDict(extra="forbid")

    state: str | None = Field(default=None, max_length=20, description="A word of state or of phase.")
    flow: str | None = Field(default=None, max_length=120)
    label: list[str] = Field(default=[], max_length=20, description="key=value; repeatable.")
    text: str | None = Field(
        default=None, max_length=MAX_TEXT, description="In the flow's name or a label, or begins the id."
    )
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)

    def for_page(self) -> dict[str, Any]:
        """The arguments of `Poster.page`."""
        labels: dict[str, str] = {}
        for pair in self.label:
            key, separator, value = pair.partition("=")
            if not separator or not key:
                raise ApiError(400, "invalid-parameter", "A wrong parameter", "label should be key=value")
            labels[key] = value
        return {
            "state": self.state,
            "flow": self.flow,
            "labels": labels,
            "text": self.text,
            "limit": self.limit,
        }


class Listing(Filters):
    """Which jobs, and which page of them."""

    cursor: str | None = Field(default=None, max_length=100, description="`next` of the page before.")
    params: bool = Field(default=False, description="With their parameters; then `limit` is at most 50.")


@router.post("", status_code=201, response_model=JobModel, responses=problems(404, 409, 413, 415, 422))
def post(
    desk: Operator,
    body: PostBody,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Response:
    """Put a job on the board. Once this is answered it is stored.

    Of posts with the same Idempotency-Key one is stored, and the others are answered with its job.
    """
    wishes = WishesByName(
        labels=body.labels,
        priority=body.priority,
        delay_seconds=body.delay_seconds,
        at=body.at,
        exclusive=body.exclusive,
        on_busy=body.on_busy,
        key=idempotency_key,
        parent=body.parent,
        detached=body.detached,
        retry=None if body.retry is None else RetryPolicy(**body.retry.model_dump()),
        limits=None if body.limits is None else Limits(**body.limits.model_dump()),
        on_failure=body.on_failure,
    )
    job = desk.post(body.flow, body.params, version=body.version, **wishes)
    return answered(job_dict(job), 201, {"Location": f"/api/v1/jobs/{job.id}"})


@router.get("", response_model=JobsAnswer, responses=problems())
def listing(desk: Viewer, query: Annotated[Listing, Query()]) -> Response:
    """Jobs, newest first, page by page."""
    if query.params and query.limit > 50:
        raise ApiError(400, "invalid-parameter", "A wrong parameter", "with params the limit is at most 50")
    page = desk.page(**query.for_page(), after=query.cursor, with_params=query.params)
    told = job_dict if query.params else row_dict
    return answered({"jobs": [told(job) for job in page.jobs], "next": page.next})


@router.get("/current", response_model=JobsAnswer, responses=problems())
def current(desk: Viewer, flow: Annotated[str | None, Query(max_length=120)] = None) -> Response:
    """The jobs that run now, also backwards, newest first; at most 200."""
    page = desk.page(state="running", flow=flow, limit=MAX_PAGE)
    return answered({"jobs": [row_dict(job) for job in page.jobs], "next": page.next})


@router.get("/counts", response_model=CountsAnswer, responses=problems())
def counts(desk: Viewer) -> Response:
    """How many jobs there are of each phase."""
    return answered({"counts": desk.counts()})


@router.get("/{job_id}", response_model=JobModel, responses=problems(404))
def show(desk: Viewer, job_id: JobId) -> Response:
    """The job as it stands."""
    return answered(job_dict(desk.show(job_id)))


@router.delete(
    "/{job_id}",
    status_code=204,
    response_class=Response,
    responses={
        **{code: {"model": DeleteAnswer} for code in (200, 202)},
        **problems(404, 409, 413, 415),
    },
)
def delete(desk: Operator, job_id: JobId) -> Response:
    """Remove a job with its history: at once (204) where it had ended or never begun.

    Else it is cancelled and undone first, and removed with its end: 202, and 200 the next time.
    """
    answer = desk.delete(job_id)
    if answer == DELETED:
        return Response(status_code=204)
    return answered({"answer": answer}, 202 if answer == ACCEPTED else 200)


@router.get("/{job_id}/tasks", response_model=TasksAnswer, responses=problems(404))
def tasks(
    desk: Viewer, job_id: JobId, attempt: Annotated[int | None, Query(ge=1, le=10**9)] = None
) -> Response:
    """What began, in order; of one attempt, or of all."""
    return answered({"tasks": [task.as_dict() for task in desk.tasks(job_id, attempt)]})


@router.get("/{job_id}/entries", response_model=EntriesAnswer, responses=problems(404))
def entries(desk: Viewer, job_id: JobId, after: After = 0) -> Response:
    """The job's history beyond entry `after`."""
    return answered({"entries": [entry.as_dict() for entry in desk.entries(job_id, after)]})


@router.get("/{job_id}/logs", response_model=LogsAnswer, responses=problems(404))
def logs(
    desk: Viewer, job_id: JobId, after: After = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 1000
) -> Response:
    """What its tasks logged and printed, beyond line `after`."""
    return answered({"lines": [line.as_dict() for line in desk.logs(job_id, after, limit)]})


@router.get("/{job_id}/chunks", response_model=ChunksAnswer, responses=problems(404))
def chunks(desk: Viewer, job_id: JobId, after: After = 0) -> Response:
    """What its tasks have streamed beyond chunk `after`; there is no more when nothing comes."""
    return answered({"chunks": [chunk.as_dict() for chunk in desk.chunks(job_id, after)]})


@router.get("/{job_id}/graph", response_model=GraphAnswer, responses=problems(404))
def graph(desk: Viewer, job_id: JobId) -> Response:
    """The tasks of the present attempt with their states, and what comes before what."""
    return answered(graph_of(desk, job_id))


@router.get("/{job_id}/result", response_model=ResultAnswer, responses=problems(404, 409))
def result(desk: Viewer, job_id: JobId) -> Response:
    """The result of a completed job."""
    return answered({"result": desk.result(job_id)})


@router.get("/{job_id}/preview", response_model=PreviewModel, responses=problems(404))
def preview(desk: Viewer, job_id: JobId) -> Response:
    """What a cancel would undo now, in which order, and how long that took in the past."""
    return answered(desk.preview(job_id).as_dict())


@router.get("/{job_id}/receipt", response_model=ReceiptModel, responses=problems(404))
def receipt(desk: Viewer, job_id: JobId) -> Response:
    """What became of the undo of the present attempt."""
    return answered(desk.receipt(job_id).as_dict())
