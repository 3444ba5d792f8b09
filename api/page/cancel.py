"""Cancels, by way of a page that shows what would be undone and asks why."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from ebbtide.api.desk import Operator
from ebbtide.api.page.filters import filled, given
from ebbtide.api.page.notices import tally
from ebbtide.api.page.printing import printed, told
from ebbtide.api.problems import ApiError
from ebbtide.api.routes.jobs import Filters, JobId
from ebbtide.errors import JobNotFound, TooLate, UsageError
from ebbtide.jobs import FINAL_STATES, Job, Poster, Selection
from ebbtide.jobs.browsing import MAX_PAGE
from ebbtide.jobs.preview import Preview
from ebbtide.jobs.texts import MAX_REASON
from ebbtide.jobs.verbs import ACCEPTED

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

#: Of how many jobs it is shown what would be undone, task by task.
SHOWN = 10
#: How many jobs one form cancels: its body has a limit, and so has what a person can judge.
MOST = 10_000

_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@router.get("/jobs/{job_id}/cancel")
def confirm(request: Request, desk: Operator, job_id: JobId) -> Response:
    """What a cancel would undo, and the form that asks for it."""
    return _asked(request, desk, job_id)


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, desk: Operator, job_id: JobId) -> Response:
    """Have a job stopped, and what it did undone."""
    reason = request.state.form.get("reason", "")
    try:
        answer = desk.cancel(job_id, reason)
    except TooLate:
        return _asked(request, desk, job_id, status=409)
    except UsageError as error:
        return _asked(request, desk, job_id, reason=reason, wrong=str(error), status=422)
    if answer.answer != "accepted":
        return told(f"/jobs/{answer.job.id}", "cancel-known")
    at_once = answer.job.state in FINAL_STATES
    return told(f"/jobs/{answer.job.id}", "cancel-at-once" if at_once else "cancel-accepted")


def _asked(
    request: Request, desk: Poster, job_id: str, *, reason: str = "", wrong: str = "", status: int = 200
) -> Response:
    job = desk.show(job_id)
    facts = {"job": job, "preview": desk.preview(job.id), "reason": reason, "wrong": wrong}
    return printed(request, "cancel.html", status, **facts, most_reason=MAX_REASON)


@router.get("/cancel")
def confirm_many(request: Request, desk: Operator) -> Response:
    """What a cancel of several jobs would undo: of those that are ticked, or of all that fit."""
    return _asked_of_many(request, desk, _selection(request))


@router.post("/cancel")
def cancel_many(request: Request, desk: Operator) -> Response:
    """Have the jobs stopped that the page has shown, and no other."""
    form = request.state.form
    chosen, reason = Selection(ids=_checked(form.get("ids", "").split(), MOST)), form.get("reason", "")
    try:
        answers = desk.cancel_many(chosen, reason)
    except UsageError as error:
        return _asked_of_many(request, desk, chosen, reason=reason, wrong=str(error), status=422)
    return told("/", "cancel-many", **tally(answers))


def _selection(request: Request) -> Selection:
    """The jobs that the URL names. Raises ApiError 400 where it names none as it should."""
    ids = request.query_params.getlist("id")
    if ids:
        return Selection(ids=_checked(ids, MAX_PAGE))
    asked = filled(given(request.query_params))
    everything = request.query_params.get("everything") == "true"
    if "text" in asked or (everything and asked):
        raise _refused("jobs are cancelled by state, flow and label; of a text they have to be ticked")
    try:
        filters = Filters.model_validate(asked).for_page()
    except ValidationError as error:
        raise _refused("the filter cannot be used") from error
    return Selection(
        state=filters["state"], flow=filters["flow"], labels=filters["labels"], everything=everything
    )


def _checked(ids: list[str], most: int) -> list[str]:
    if not ids or len(ids) > most or not all(_ID.fullmatch(each) for each in ids):
        raise _refused("no jobs are named, or too many: choose them in the list")
    return ids


def _refused(detail: str) -> ApiError:
    return ApiError(400, "no-selection", "No jobs are chosen", detail)


def _asked_of_many(
    request: Request,
    desk: Poster,
    chosen: Selection,
    *,
    reason: str = "",
    wrong: str = "",
    status: int = 200,
) -> Response:
    answers = desk.cancel_many(chosen, dry_run=True)
    ids = [answer.job_id for answer in answers if answer.answer == ACCEPTED][:MOST]
    states = Counter(str(answer.state) for answer in answers if answer.answer == ACCEPTED)
    return printed(
        request,
        "cancelmany.html",
        status,
        ids=ids,
        states=states,
        others=Counter(answer.answer for answer in answers if answer.answer != ACCEPTED),
        shown=list(_previews(desk, ids[:SHOWN])),
        most=MOST,
        reason=reason,
        wrong=wrong,
        most_reason=MAX_REASON,
    )


def _previews(desk: Poster, ids: list[str]) -> Iterator[tuple[Job, Preview]]:
    for job_id in ids:
        # One may be removed while others are looked at.
        with contextlib.suppress(JobNotFound):
            yield desk.show(job_id), desk.preview(job_id)
