"""Flows: what can be posted, as conductors have published it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from ebbtide.api.answers import FlowModel, FlowsAnswer, answered, problems
from ebbtide.api.desk import Viewer

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/flows", tags=["flows"])


@router.get("", response_model=FlowsAnswer, responses=problems())
def flows(desk: Viewer) -> Response:
    """The flows that conductors have published, older versions first."""
    return answered({"flows": [flow.as_dict() for flow in desk.catalogue.flows()]})


@router.get("/{name}", response_model=FlowModel, responses=problems(404))
def flow(
    desk: Viewer,
    name: Annotated[str, Path(max_length=120, pattern=r"^[a-z][a-z0-9_.-]{0,99}(@[1-9][0-9]{0,8})?$")],
) -> Response:
    """One flow, by its name or name@version; without a version the newest."""
    return answered(desk.catalogue.get(name).as_dict())
