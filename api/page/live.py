"""Live: one stream for all tabs of a browser, which names what has changed in what they show."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from sse_starlette import EventSourceResponse, ServerSentEvent

from ebbtide.api.desk import Viewer, caller_of
from ebbtide.api.live.feed import Feed, Stream
from ebbtide.api.live.watches import ListWatch, Message, Watch, message
from ebbtide.api.page.words import standing
from ebbtide.api.problems import ApiError
from ebbtide.api.routes.jobs import Listing
from ebbtide.errors import JobNotFound, UsageError
from ebbtide.jobs import Job, Poster

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_PING_SECONDS = 15
_FAREWELL_SECONDS = 0.8
_MOST = 40

_NONE: list[str] = []

Lists = Annotated[list[str], Query(alias="list", max_length=_MOST)]
Ids = Annotated[list[str], Query(alias="job", max_length=_MOST)]


class RowsWatch(ListWatch):
    """A page of jobs as the list shows them: no more than what changes in a row."""

    def row(self, job: Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "state": job.state,
            "phase": job.phase,
            "progress": job.progress,
            "words": standing(job),
            "asked": job.cancel is not None,
            "error": job.error,
        }


class TouchWatch(Watch):
    """Whether one job is another than before. The page that shows it is made anew by whoever wants it."""

    def __init__(self, desk: Poster, job_id: str) -> None:
        super().__init__(desk)
        self._job_id = job_id
        self._mark: object | None = None
        self._deleted = False

    def first(self, after: int | None) -> list[Message]:
        self.desk.show(self._job_id)  # whether it is there, to whom watches
        if self._mark is None:
            self._mark = self.desk.marks([self._job_id]).get(self._job_id)
        return [message("touched", {})]

    def news(self) -> list[Message]:
        before, self._mark = self._mark, self.desk.marks([self._job_id]).get(self._job_id)
        if self._mark is None:
            self._deleted = True
            return [message("deleted", {}, last=True)]
        return [message("touched", {})] if self._mark != before else []

    @property
    def ended(self) -> bool:
        return self._deleted


@router.get("/live")
async def live(request: Request, desk: Viewer, lists: Lists = _NONE, jobs: Ids = _NONE) -> Response:
    """Events `news`: `of` names a list by its query, or a job by its id; `event` and `data` say what is new.

    A list that cannot be, or a job that is not there, is told `deleted` and keeps nothing else from coming.
    """
    feed: Feed = request.app.state.feed
    opened = contextlib.AsyncExitStack()
    # Of a bounded length: who does not read is left behind by the feed.
    told: asyncio.Queue[str | None] = asyncio.Queue(3 * _MOST)
    streams: dict[str, Stream] = {}
    wanted = [*((f"list:{query}", query) for query in lists), *((f"job:{job}", None) for job in jobs)]
    try:
        for name, query in dict(wanted).items():
            try:
                key, make = _rows(desk, query) if query is not None else _touched(desk, name)
                streams[name] = await opened.enter_async_context(feed.stream(caller_of(request), key, make))
            except (JobNotFound, UsageError, ValidationError):
                told.put_nowait(_news(name, message("deleted", {})))
    except BaseException:
        await opened.aclose()
        raise

    async def pump(name: str, stream: Stream) -> None:
        async for each in stream:
            await told.put(_news(name, each))
            if each.last:
                return
        await told.put(None)  # the server ends, or this one did not read: it comes again

    async def events() -> AsyncIterator[ServerSentEvent]:
        pumps = [asyncio.create_task(pump(*each)) for each in streams.items()]
        async with opened:
            try:
                while (each := await told.get()) is not None:
                    yield ServerSentEvent(each, event="news", sep="\n")
            finally:
                for task in pumps:
                    task.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)

    return EventSourceResponse(
        events(), ping=_PING_SECONDS, sep="\n", shutdown_grace_period=_FAREWELL_SECONDS
    )


def _news(name: str, each: Message) -> str:
    return f'{{"of":{json.dumps(name)},"event":{json.dumps(each.event)},"data":{each.data}}}'


def _rows(desk: Poster, query: str) -> tuple[Hashable, Callable[[], Watch]]:
    """The rows of the page that is at `/` with this query."""
    given = {
        name: found if name == "label" else found[-1] for name, found in parse_qs(query.lstrip("?")).items()
    }
    try:
        asked = Listing.model_validate({**given, "limit": int(str(given.get("limit", 50)))})
        wanted = {**asked.for_page(), "after": asked.cursor}
    except (ApiError, ValueError) as error:
        raise UsageError("a list that cannot be") from error
    return ("rows", json.dumps(wanted, sort_keys=True)), lambda: RowsWatch(desk, wanted)


def _touched(desk: Poster, name: str) -> tuple[Hashable, Callable[[], Watch]]:
    job_id = name.removeprefix("job:")
    return ("touched", job_id), lambda: TouchWatch(desk, job_id)
