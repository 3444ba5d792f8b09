"""The desk: a poster in the name of whoever asks, for those whose role allows it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from ebbtide.api.gate import Caller
from ebbtide.api.problems import ApiError
from ebbtide.errors import NotAllowed
from ebbtide.jobs import Poster
from ebbtide.jobs.credentials import Role

__all__ = ["Admin", "DeskFor", "Operator", "Viewer", "caller_of"]


def caller_of(request: HTTPConnection) -> Caller:
    """Who asks. Raises ApiError 401 where nobody does, which only pages have to expect."""
    caller: Caller | None = request.state.caller
    if caller is None:
        raise ApiError(401, "unauthenticated", "Who asks?", "log in first")
    return caller


class DeskFor:
    """A dependency: the poster of the caller, who has at least this role."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: HTTPConnection) -> Poster:
        caller = caller_of(request)
        if not caller.role.covers(self.role):
            raise NotAllowed(f"{caller.name} is a {caller.role}; this wants the role {self.role}")
        poster: Poster = request.app.state.poster
        return poster.acting_for(caller.name, jobs_of=caller.jobs_of)


Viewer = Annotated[Poster, Depends(DeskFor(Role.VIEWER))]
Operator = Annotated[Poster, Depends(DeskFor(Role.OPERATOR))]
Admin = Annotated[Poster, Depends(DeskFor(Role.ADMIN))]
