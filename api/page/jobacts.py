"""Acts on one job, all but its cancel: forms that post, each by the poster's method."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from ebbtide.api.desk import Operator
from ebbtide.api.page.printing import printed, told
from ebbtide.api.routes.jobs import JobId
from ebbtide.jobs import Poster
from ebbtide.jobs.acts import Act
from ebbtide.jobs.verbs import DELETED

__all__ = ["router"]

router = APIRouter(prefix="/jobs/{job_id}", include_in_schema=False)

Form = Mapping[str, str]


@router.get("/delete")
def ask_delete(request: Request, desk: Operator, job_id: JobId) -> Response:
    """What is removed, and undone before that."""
    job = desk.show(job_id)
    allowed = Act.DELETE in desk.choices(job.id).acts
    return printed(request, "delete.html", job=job, allowed=allowed, preview=desk.preview(job.id))


@router.post("/{act}")
def do(request: Request, desk: Operator, job_id: JobId, act: str) -> Response:
    """Ask for it. What the state rules out is refused as the API refuses it."""
    if act not in _ACTS:
        raise HTTPException(404, "Not Found")
    job_id = desk.show(job_id).id
    place, code = _ACTS[Act(act)](desk, job_id, request.state.form)
    return told(place or f"/jobs/{job_id}", code)


def _retry(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    desk.retry(job_id)
    return "", "retried"


def _go_on(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    desk.retry(job_id, from_failure=True)
    return "", "unparked"


def _pause(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    return "", "paused" if desk.pause(job_id).job.state == "paused" else "pause-accepted"


def _resume(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    desk.resume(job_id)
    return "", "resumed"


def _rewind(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    desk.rewind(job_id, form.get("savepoint", ""))
    return "", "rewind-accepted"


def _unpark(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    desk.unpark(job_id)
    return "", "unparked"


def _skip(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    desk.unpark(job_id, skip=form.get("task", ""), reason=form.get("reason", ""))
    return "", "skipped"


def _accept(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    desk.accept(job_id, form.get("reason", ""))
    return "", "accepted"


def _delete(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    return ("/", "deleted") if desk.delete(job_id) == DELETED else ("", "delete-accepted")


_ACTS: Mapping[Act, Callable[[Poster, str, Form], tuple[str, str]]] = {
    Act.RETRY: _retry,
    Act.GO_ON: _go_on,
    Act.PAUSE: _pause,
    Act.RESUME: _resume,
    Act.REWIND: _rewind,
    Act.UNPARK: _unpark,
    Act.SKIP: _skip,
    Act.ACCEPT: _accept,
    Act.DELETE: _delete,
}
