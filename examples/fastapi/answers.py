"""A web service that has a language model answer prompts: each answer is a job.

It is streamed while it comes, cancelled at any moment, and outlives this program: killed and started again,
the program goes on with every answer that it had taken on.

    uvicorn answers:app --timeout-graceful-shutdown 1
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from ebbtide import Service
from ebbtide.errors import Conflict, NotFound
from ebbtide.flows.agent import agent

logging.basicConfig(format="%(message)s")
logging.getLogger("ebbtide.conductor.embedding").setLevel(
    logging.INFO
)  # a line for each phase of the service


class Prompt(BaseModel):
    """What is asked."""

    prompt: Annotated[str, Field(min_length=1, max_length=100_000)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Answers are given as long as the program runs; what then still runs goes on after the next start."""
    async with Service(
        os.environ.get("DATABASE", "sqlite:///answers.db"),
        flows=[agent],
        runners=64,
        shutdown_seconds=float(os.environ.get("SHUTDOWN_SECONDS", "5")),
        rest="release",
    ) as service:
        app.state.service = service
        yield


app = FastAPI(title="Answers", lifespan=lifespan)


@app.exception_handler(NotFound)
@app.exception_handler(Conflict)
async def refuse(request: Request, error: NotFound | Conflict) -> JSONResponse:
    """What a client can make wrong, in its words. That nothing new is taken, at the end, is a Conflict."""
    return JSONResponse({"detail": str(error)}, 404 if isinstance(error, NotFound) else 409)


@app.post("/answers", status_code=202)
async def ask(request: Request, asked: Prompt) -> dict[str, Any]:
    """Stored once this is answered; it is worked on from now on."""
    params = {
        "prompt": asked.prompt,
        "endpoint": os.environ["ENDPOINT"],
        "model": os.environ.get("MODEL", "small"),
        # A reference, such as env:MODEL_KEY: the key itself is in no request and in no database.
        "key": os.environ.get("KEY"),
    }
    return told(await service_of(request).post("agent", params))


@app.get("/answers")
async def all_answers(
    request: Request, limit: Annotated[int, Field(ge=1, le=1000)] = 100
) -> list[dict[str, Any]]:
    """The newest first."""
    return [told(job) for job in await service_of(request).poster.list(limit=limit)]


@app.get("/answers/{job_id}")
async def answer(request: Request, job_id: str) -> dict[str, Any]:
    """Where it is."""
    return told(await service_of(request).poster.show(job_id))


@app.get("/answers/{job_id}/stream")
async def stream(
    request: Request, job_id: str, last_event_id: Annotated[int, Header(ge=0)] = 0
) -> StreamingResponse:
    """Server-sent events: `chunk`, whose id a client that was cut off sends back, and at last `end`.

    Where `run` rises, the answer begins anew: the program was killed meanwhile.
    """
    job = await service_of(request).poster.show(job_id)  # an unknown one is told by its status

    async def events() -> AsyncIterator[str]:
        async with aclosing(service_of(request).stream(job.id, last_event_id)) as chunks:
            async for chunk in chunks:
                said = {"run": chunk.epoch, "says": chunk.value}
                yield f"id: {chunk.number}\nevent: chunk\ndata: {json.dumps(said)}\n\n"
        ended = await service_of(request).poster.show(job.id)
        yield f"event: end\ndata: {json.dumps(told(ended))}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.post("/answers/{job_id}/cancel", status_code=202)
async def cancel(request: Request, job_id: str) -> dict[str, Any]:
    """Accepted is stored: the answer breaks off, also if this program is killed meanwhile."""
    answered = await service_of(request).cancel(job_id, reason="asked by HTTP")
    return told(answered.job)


def service_of(request: Request) -> Service:
    """The one that the lifespan has started."""
    service: Service = request.app.state.service
    return service


def told(job: Any) -> dict[str, Any]:
    """What clients see of a job."""
    return {"id": job.id, "prompt": job.params["prompt"], "state": job.phase, "error": job.error}
