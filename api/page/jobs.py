"""The list of jobs: filters in the URL, counts for each phase, page by page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from ebbtide.api.desk import Viewer
from ebbtide.api.page.printing import printed
from ebbtide.api.page.words import PHASE_ORDER
from ebbtide.api.problems import ApiError
from ebbtide.api.routes.jobs import Listing
from ebbtide.errors import UsageError
from ebbtide.jobs.browsing import Page

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_FIELDS = ("state", "flow", "text", "limit", "cursor")


@router.get("/")
def jobs(request: Request, desk: Viewer) -> Response:
    """Jobs, the newest first."""
    given = _given(request)
    problem, page = "", Page([], None)
    try:
        query = Listing.model_validate(_filled(given))
        page = desk.page(**query.for_page(), after=query.cursor)
    except ValidationError as error:
        problem = f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}"
    except ApiError as error:
        problem = error.problem.detail
    except UsageError as error:
        problem = str(error)
    counts = desk.counts()
    filters = _filled(given | {"cursor": ""})
    return printed(
        request,
        "jobs.html",
        400 if problem else 200,
        page=page,
        given=given,
        problem=problem,
        counts={phase: counts[phase] for phase in PHASE_ORDER},
        flows=sorted({flow.name for flow in desk.catalogue.flows()}),
        filtered=bool(filters.keys() - {"limit"}),
        query=_query(filters),
        link=lambda **changed: f"/{_query(filters | changed)}",
    )


def _given(request: Request) -> dict[str, Any]:
    """The fields of the query; a form sends the empty ones as well."""
    asked = request.query_params
    given: dict[str, Any] = {name: asked.get(name, "").strip() for name in _FIELDS}
    return given | {"label": [label.strip() for label in asked.getlist("label") if label.strip()]}


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _query(fields: dict[str, Any]) -> str:
    kept = _filled(fields)
    return f"?{urlencode(kept, doseq=True)}" if kept else ""
