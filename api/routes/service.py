"""Service: whether it lives, whether it can work, who asks, and numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from ebbtide.api.answers import CallerAnswer, ConductorsAnswer, StatisticsModel, answered, problems
from ebbtide.api.desk import Viewer, caller_of
from ebbtide.api.problems import ApiError
from ebbtide.jobs import Poster
from ebbtide.jobs.conductors import ALIVE, ENDED, EXPIRED
from ebbtide.tasks.payload import storable

__all__ = ["router"]

router = APIRouter(tags=["service"])


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Whether the process lives. Asks nothing of the store."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse, responses=problems())
def readyz(request: Request) -> str:
    """Whether the store can be used."""
    poster: Poster = request.app.state.poster
    poster.counts()
    return "ready\n"


@router.get("/api/v1/me", response_model=CallerAnswer, responses=problems())
def me(desk: Viewer, request: Request) -> Response:
    """Who asks, by the token or the session."""
    caller = caller_of(request)
    return answered({"name": caller.name, "role": str(caller.role), "jobs_of": caller.jobs_of})


@router.get("/api/v1/conductors", response_model=ConductorsAnswer, responses=problems())
def conductors(desk: Viewer) -> Response:
    """The conductors that the store remembers, the newest first, and what they have claimed."""
    return answered({"conductors": [each.as_dict() for each in desk.conductors()]})


@router.get("/api/v1/stats", response_model=StatisticsModel, responses=problems())
def stats(
    desk: Viewer,
    window_seconds: Annotated[float | None, Query(gt=0, le=3.2e9)] = None,
    flow: Annotated[str | None, Query(max_length=120)] = None,
) -> Response:
    """How many jobs were posted, ended and parked, and how long they took: of all time, or up to now."""
    if flow is not None and storable(flow) != flow:
        raise ApiError(400, "invalid-parameter", "A wrong parameter", "flow is the name of no flow")
    return answered(desk.statistics(window_seconds, flow=flow).as_dict())


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {CONTENT_TYPE_PLAIN_0_0_4.partition(";")[0]: {}}}, **problems()},
)
def metrics(desk: Viewer) -> Response:
    """Numbers for Prometheus, read when they are asked for; of the jobs that the caller may see."""
    registry = CollectorRegistry()
    registry.register(_Jobs(desk))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Jobs(Collector):
    def __init__(self, desk: Poster) -> None:
        self._desk = desk

    def collect(self) -> Iterator[GaugeMetricFamily]:
        jobs = GaugeMetricFamily("ebbtide_jobs", "Jobs in the store, by phase.", labels=["phase"])
        for phase, count in self._desk.counts().items():
            jobs.add_metric([phase], count)
        yield jobs
        alive = GaugeMetricFamily("ebbtide_conductors", "Conductors that the store knows.", labels=["state"])
        states = [each.state for each in self._desk.conductors()]
        for state in (ALIVE, EXPIRED, ENDED):
            alive.add_metric([state], states.count(state))
        yield alive
