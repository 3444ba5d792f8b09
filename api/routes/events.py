"""Events: lists and jobs as they change, as server-sent events and over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response, WebSocket
from pydantic import Field, ValidationError
from sse_starlette import EventSourceResponse
from starlette.websockets import WebSocketDisconnect

from ebbtide.api.answers import problems
from ebbtide.api.desk import DeskFor, Viewer, caller_of
from ebbtide.api.live.feed import Feed, Stream
from ebbtide.api.live.watches import JobWatch, ListWatch, Watch
from ebbtide.api.problems import ApiError, problem_of
from ebbtide.api.routes.jobs import Filters, JobId
from ebbtide.errors import EbbtideError
from ebbtide.jobs import Poster
from ebbtide.jobs.credentials import Role

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["events"])

_PING_SECONDS = 15
_FAREWELL_SECONDS = 0.8
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events."}
}


class SocketQuery(Filters):
    """What a socket shows: a list, or one job."""

    job: str | None = Field(default=None, pattern="^[0-9a-fA-F-]{1,36}$")
    after: int = Field(default=0, ge=0)


@router.get("/events", response_class=EventSourceResponse, responses={**_EVENTS, **problems()})
async def list_events(request: Request, desk: Viewer, query: Annotated[Filters, Query()]) -> Response:
    """A page of jobs: an event `snapshot`, then `changes`, at most four a second."""
    key, make = _list(desk, query)
    return await _answered(request, key, make, None)


@router.get(
    "/jobs/{job_id}/events", response_class=EventSourceResponse, responses={**_EVENTS, **problems(404)}
)
async def job_events(
    request: Request,
    desk: Viewer,
    job_id: JobId,
    after: Annotated[int, Query(ge=0, le=2**53, description="The last entry that is known.")] = 0,
    until_rest: Annotated[bool, Query(description="End when the job is final or parked.")] = False,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    """One job: `entry` for each line of its history, resumable by its number, and `job` as it stands."""
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdecimal():
        after = int(last_event_id)
    full = await asyncio.to_thread(lambda: desk.show(job_id).id)
    return await _answered(request, ("job", full), lambda: JobWatch(desk, full), after, until_rest=until_rest)


@router.websocket("/events/ws")
async def socket_events(socket: WebSocket) -> None:
    """The same as JSON texts with event, id and data: of the list that the query filters, or of `job`."""
    feed: Feed = socket.app.state.feed
    try:
        desk = await asyncio.to_thread(DeskFor(Role.VIEWER), socket)
        query = SocketQuery.model_validate(_fields(socket))
        if query.job is None:
            key, make = _list(desk, query)
        else:
            full = (await asyncio.to_thread(desk.show, query.job)).id
            key, make = ("job", full), lambda: JobWatch(desk, full)
        async with feed.stream(caller_of(socket), key, make, after=query.after) as stream:
            await socket.accept()
            await _talk(socket, stream)
    except ValidationError as error:
        await socket.close(4400, str(error.errors()[0]["msg"])[:100])
    except ApiError as error:
        await socket.close(4000 + error.problem.status, error.problem.detail[:100])
    except EbbtideError as error:
        problem = problem_of(error)
        await socket.close(4000 + problem.status, problem.detail[:100])


def _list(desk: Poster, query: Filters) -> tuple[Hashable, Callable[[], Watch]]:
    wanted = query.for_page()
    return json.dumps(wanted, sort_keys=True), lambda: ListWatch(desk, wanted)


def _fields(socket: WebSocket) -> dict[str, Any]:
    """The query as values: what is a number there is a text in a URL."""
    given: dict[str, Any] = dict(socket.query_params)
    if "label" in given:
        given["label"] = socket.query_params.getlist("label")
    return given


async def _answered(
    request: Request,
    key: Hashable,
    make: Callable[[], Watch],
    after: int | None,
    *,
    until_rest: bool = False,
) -> Response:
    """The response; what is refused is refused before it begins."""
    feed: Feed = request.app.state.feed
    opened = contextlib.AsyncExitStack()
    stream = await opened.enter_async_context(feed.stream(caller_of(request), key, make, after=after))

    async def events() -> AsyncIterator[bytes]:
        async with opened:
            async for each in stream:
                yield each.sent
                if until_rest and each.rests:
                    return

    # The feed ends the stream when the server is told to stop: a moment is left for it to say so.
    return EventSourceResponse(
        events(), ping=_PING_SECONDS, sep="\n", shutdown_grace_period=_FAREWELL_SECONDS
    )


async def _talk(socket: WebSocket, stream: Stream) -> None:
    """Send until either side ends. What the other side says is not listened to."""

    async def listen() -> None:
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.receive_text()
        stream.end()

    listening = asyncio.create_task(listen())
    try:
        async for each in stream:
            told = {"event": each.event, "id": each.number, "data": json.loads(each.data)}
            await socket.send_json(told)
        if not listening.done():
            await socket.close(1001)
    except WebSocketDisconnect:
        pass  # it went away while something was on its way to it
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
