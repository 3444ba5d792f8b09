"""The door: where a person without a session comes to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from ebbtide.api.page.printing import printed

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/login")
def login(
    request: Request,
    problem: Annotated[str, Query(max_length=20)] = "",
    wanted: Annotated[str, Query(alias="next", max_length=2000)] = "",
) -> Response:
    """The form that takes a token."""
    return printed(request, "login.html", 401 if problem else 200, problem=problem, wanted=wanted)
