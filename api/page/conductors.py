"""Conductors: who is alive, and what runs where."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ebbtide.api.desk import Viewer
from ebbtide.api.page.printing import printed
from ebbtide.jobs.conductors import ALIVE, EXPIRED

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/conductors")
def conductors(request: Request, desk: Viewer) -> Response:
    """The conductors that the store remembers: those that live, those that fell silent, those that ended."""
    found = desk.conductors()
    return printed(
        request,
        "conductors.html",
        living=[each for each in found if each.state == ALIVE],
        silent=[each for each in found if each.state == EXPIRED],
        ended=[each for each in found if each.state not in (ALIVE, EXPIRED)],
    )
