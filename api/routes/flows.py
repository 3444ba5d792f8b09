"""Flows: what can be posted, as conductors have published it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from ebbtide.api.answers import FlowModel, FlowsAnswer, answered, problems
from ebbtide.api.desk import Admin, Viewer
from ebbtide.jobs import Poster

__all__ = ["router"]

Name = Annotated[str, Path(max_length=120, pattern=r"^[a-z][a-z0-9_.-]{0,99}(@[1-9][0-9]{0,8})?$")]

router = APIRouter(prefix="/api/v1/flows", tags=["flows"])


@router.get("", response_model=FlowsAnswer, responses=problems())
def flows(desk: Viewer) -> Response:
    """The flows that conductors have published, older versions first."""
    return answered(
        {"flows": [flow.as_dict() for flow in desk.catalogue.flows()], "paused": desk.paused_flows()}
    )


@router.get("/{name}", response_model=FlowModel, responses=problems(404))
def flow(
    desk: Viewer,
    name: Name,
) -> Response:
    """One flow, by its name or name@version; without a version the newest."""
    return answered(desk.catalogue.get(name).as_dict())


@router.post("/{name}/pause", response_model=FlowsAnswer, responses=problems(404, 413, 415))
def pause(desk: Admin, name: Name) -> Response:
    """Let no conductor take up a job of this flow, or of name@version, unless it is to be cancelled."""
    desk.pause_flow(*_place(desk, name))
    return flows(desk)


@router.post("/{name}/resume", response_model=FlowsAnswer, responses=problems(404, 413, 415))
def resume(desk: Admin, name: Name) -> Response:
    """Let its jobs be taken up again; what was paused by version is resumed so."""
    desk.resume_flow(*_place(desk, name))
    return flows(desk)


def _place(desk: Poster, name: str) -> tuple[str, int | None]:
    """The flow, which has to be known, and its version, if one was named."""
    version = desk.catalogue.get(name).version
    bare, at, _ = name.partition("@")
    return bare, version if at else None
