"""The list of jobs: filters in the URL, counts for each phase, page by page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from ebbtide.api.desk import Viewer
from ebbtide.api.page.filters import filled, given, query
from ebbtide.api.page.printing import printed
from ebbtide.api.page.words import PHASE_ORDER
from ebbtide.api.problems import ApiError
from ebbtide.api.routes.jobs import Listing
from ebbtide.errors import UsageError
from ebbtide.jobs.browsing import Page

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/")
def jobs(request: Request, desk: Viewer) -> Response:
    """Jobs, the newest first."""
    asked = given(request.query_params)
    problem, page = "", Page([], None)
    try:
        listing = Listing.model_validate(filled(asked))
        page = desk.page(**listing.for_page(), after=listing.cursor)
    except ValidationError as error:
        problem = f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}"
    except ApiError as error:
        problem = error.problem.detail
    except UsageError as error:
        problem = str(error)
    counts = desk.counts()
    filters = filled(asked | {"cursor": ""})
    return printed(
        request,
        "jobs.html",
        400 if problem else 200,
        page=page,
        given=asked,
        problem=problem,
        counts={phase: counts[phase] for phase in PHASE_ORDER},
        flows=sorted({flow.name for flow in desk.catalogue.flows()}),
        filtered=bool(filters.keys() - {"limit"}),
        query=query(filters),
        link=lambda **changed: f"/{query(filters | changed)}",
    )
