"""Posting: a form for each flow that conductors have published."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from ebbtide.api.desk import Operator
from ebbtide.api.page.fields import Field, fields_of, meant, with_problems, with_texts
from ebbtide.api.page.printing import printed, told
from ebbtide.api.problems import problem_of
from ebbtide.api.routes.flows import Name
from ebbtide.errors import Conflict, EbbtideError, KeyReused, ParameterError, UsageError
from ebbtide.flows.published import PublishedFlow
from ebbtide.jobs.posting import WishesByName

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_MAX_KEY = 255
# The fields beside those of the flow, with what stands in them at first.
_WISHES = {"labels": "", "priority": "0", "delay": "0", "exclusive": ""}


@router.get("/post")
def flows(request: Request, desk: Operator) -> Response:
    """The flows that can be posted."""
    found = desk.catalogue.flows()
    newest = {flow.name: flow for flow in found}  # older versions come first
    return printed(request, "flows.html", flows=list(newest.values()), paused=desk.paused_flows())


@router.get("/post/{name}")
def form(request: Request, desk: Operator, name: Name) -> Response:
    """The form of a flow."""
    flow = desk.catalogue.get(name)
    return _form(request, flow, fields_of(flow), _WISHES, key=secrets.token_urlsafe(16))


@router.post("/post/{name}")
def post(request: Request, desk: Operator, name: Name) -> Response:
    """Put a job on the board. A form that is sent twice posts one job."""
    sent: Mapping[str, str] = request.state.form
    flow = desk.catalogue.get(name)
    fields = with_texts(fields_of(flow), sent)
    wished = {field: sent.get(field, begins) for field, begins in _WISHES.items()}
    key = sent.get("key") or secrets.token_urlsafe(16)
    try:
        params, wishes = meant(flow, fields), _wishes(wished, key)
        job = desk.post(flow.name, params, version=flow.version, **wishes)
    except ParameterError as error:
        fields = with_problems(fields, error.problems)
        beside = {field.name for field in fields if field.wrong}
        others = "; ".join(f"{name}: {text}" for name, text in error.problems if name not in beside)
        return _form(request, flow, fields, wished, key=key, wrong=others, status=422)
    except _Wrong as error:
        return _form(request, flow, fields, wished, key=key, beside={error.field: str(error)}, status=422)
    except KeyReused as error:
        key = secrets.token_urlsafe(16)
        return _form(request, flow, fields, wished, key=key, before=error.job_id, status=422)
    except (UsageError, Conflict) as error:
        status = problem_of(error).status
        return _form(request, flow, fields, wished, key=key, wrong=str(error), status=status)
    return told(f"/jobs/{job.id}", "posted")


class _Wrong(EbbtideError):
    """What is wrong with a field that is none of the flow's."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(problem)


def _wishes(texts: Mapping[str, str], key: str) -> WishesByName:
    wishes = WishesByName(
        labels=_labels(texts["labels"]),
        priority=int(_number("priority", texts["priority"], whole=True)),
        delay_seconds=_number("delay", texts["delay"]),
        key=key[:_MAX_KEY],
    )
    if texts["exclusive"].strip():
        wishes["exclusive"] = texts["exclusive"].strip()
    return wishes


def _labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = (part.strip() for part in line.partition("="))
        if line.strip() and not (separator and key and value):
            raise _Wrong("labels", "each line should be key=value")
        if line.strip():
            labels[key] = value
    return labels


def _number(field: str, text: str, *, whole: bool = False) -> float:
    text = text.strip()
    if not text:
        return 0
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        raise _Wrong(field, "should be a whole number" if whole else "should be a number") from error


def _form(
    request: Request,
    flow: PublishedFlow,
    fields: list[Field],
    wished: Mapping[str, str],
    *,
    key: str,
    wrong: str = "",
    beside: Mapping[str, str] | None = None,
    before: str = "",
    status: int = 200,
) -> Response:
    facts: dict[str, Any] = {"wished": wished, "opened": dict(wished) != _WISHES}
    return printed(
        request,
        "post.html",
        status,
        flow=flow,
        fields=fields,
        key=key,
        wrong=wrong,
        beside=dict.fromkeys(_WISHES, "") | dict(beside or {}),
        before=before,
        **facts,
    )
