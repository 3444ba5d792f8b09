"""Live: one stream for all tabs of a browser, which names what has changed in what they show."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sse_starlette import EventSourceResponse

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

    def first(self, after: int | None, asked_at: float) -> list[Message]:
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
async def live(request: Request, desk: Viewer) -> Response:
    """Events `news`: `of` names a list by its query, or a job by its id; `event` and `data` say what is new.

    What is asked for first matters most. A list that cannot be, or a job that is not there, is told
    `deleted`, and what is too much for one stream `left`; neither keeps anything else from coming.
    """
    feed: Feed = request.app.state.feed
    opened = contextlib.AsyncExitStack()
    # Of a bounded length: who does not read is left behind by the feed.
    told: asyncio.Queue[bytes | None] = asyncio.Queue(3 * _MOST)
    streams: dict[str, Stream] = {}
    refused: list[bytes] = []
    try:
        for number, name in enumerate(_wanted(request), 1):
            if number > _MOST:
                refused.append(_news(name, message("left", {})))
                continue
            try:
                key, make = _watched(desk, name)
                stream = feed.stream(caller_of(request), key, make, counts=not streams)
                streams[name] = await opened.enter_async_context(stream)
            except (JobNotFound, UsageError, ValidationError):
                refused.append(_news(name, message("deleted", {})))
    except BaseException:
        await opened.aclose()
        raise

    async def pump(name: str, stream: Stream) -> None:
        async for each in stream:
            await told.put(_news(name, each))
            if each.last:
                return
        await told.put(None)  # the server ends, or this one did not read: it comes again

    async def events() -> AsyncIterator[bytes]:
        pumps = [asyncio.create_task(pump(*each)) for each in streams.items()]
        async with opened:
            try:
                for each in refused:
                    yield each
                while (news := await told.get()) is not None:
                    yield news
            finally:
                for task in pumps:
                    task.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)

    return EventSourceResponse(
        events(), ping=_PING_SECONDS, sep="\n", shutdown_grace_period=_FAREWELL_SECONDS
    )


def _news(name: str, each: Message) -> bytes:
    """As a server-sent event. JSON has its line breaks escaped."""
    told = f'{{"of":{json.dumps(name)},"event":{json.dumps(each.event)},"data":{each.data}}}'
    return f"event: news\ndata: {told}\n\n".encode()


def _wanted(request: Request) -> list[str]:
    """Names as the news have them, each once, in the order in which they are asked for."""
    asked = request.query_params.multi_items()
    return list(dict.fromkeys(f"{kind}:{value}" for kind, value in asked if kind in ("list", "job")))


def _watched(desk: Poster, name: str) -> tuple[Hashable, Callable[[], Watch]]:
    kind, _, value = name.partition(":")
    return _rows(desk, value) if kind == "list" else _touched(desk, value)


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


def _touched(desk: Poster, job_id: str) -> tuple[Hashable, Callable[[], Watch]]:
    return ("touched", job_id), lambda: TouchWatch(desk, job_id)
