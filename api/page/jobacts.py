"""Acts on one job: forms that post, each by the poster's method of that name; what undoes is shown first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter, Request, Response

from ebbtide.api.desk import Operator
from ebbtide.api.page.printing import printed, told
from ebbtide.api.routes.jobs import JobId
from ebbtide.jobs import Poster
from ebbtide.jobs.acts import Act
from ebbtide.jobs.states import FINAL_STATES
from ebbtide.jobs.verbs import ALREADY_REQUESTED, DELETED

__all__ = ["router"]

router = APIRouter(prefix="/jobs/{job_id}", include_in_schema=False)

Form = Mapping[str, str]


@router.get("/cancel")
def ask_cancel(request: Request, desk: Operator, job_id: JobId) -> Response:
    """What a cancel would undo, and the question why."""
    return _asked(request, desk, job_id, Act.CANCEL)


@router.get("/delete")
def ask_delete(request: Request, desk: Operator, job_id: JobId) -> Response:
    """What is removed, and undone before that."""
    return _asked(request, desk, job_id, Act.DELETE)


@router.post("/{act}")
def do(request: Request, desk: Operator, job_id: JobId, act: Act) -> Response:
    """Ask for it. What the state rules out is refused as the API refuses it."""
    job_id = desk.show(job_id).id
    place, code = _ACTS[act](desk, job_id, request.state.form)
    return told(place or f"/jobs/{job_id}", code)


def _asked(request: Request, desk: Poster, job_id: str, act: Act) -> Response:
    job = desk.show(job_id)
    facts = {"job": job, "act": act, "choices": desk.choices(job.id), "preview": desk.preview(job.id)}
    return printed(request, "jobact.html", **facts)


def _cancel(desk: Poster, job_id: str, form: Form) -> tuple[str, str]:
    answer = desk.cancel(job_id, form.get("reason", ""))
    if answer.answer == ALREADY_REQUESTED:
        return "", "cancel-known"
    return "", "cancel-at-once" if answer.job.state in FINAL_STATES else "cancel-accepted"


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
    Act.CANCEL: _cancel,
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
