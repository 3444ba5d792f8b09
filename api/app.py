"""The application: routes behind the gate, and one form for whatever goes wrong."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ebbtide.api.answers import ProblemModel
from ebbtide.api.gate import Gate
from ebbtide.api.head import Head
from ebbtide.api.headers import Headers
from ebbtide.api.limits import Bucket, Limits
from ebbtide.api.live.feed import Feed
from ebbtide.api.page import assets, cancel, conductors, door, jobacts, live, post
from ebbtide.api.page import job as page_of_job
from ebbtide.api.page import jobs as page_of_jobs
from ebbtide.api.page.refusal import answer_of
from ebbtide.api.problems import ApiError, Problem, problem_of
from ebbtide.api.routes import acts, events, flows, jobs, many, service, session
from ebbtide.errors import EbbtideError, FlowNotFound
from ebbtide.jobs import Poster

__all__ = ["create_app"]

LOG = logging.getLogger(__name__)

ROUTERS = (many.router, jobs.router, acts.router, events.router, flows.router, service.router, session.router)
PAGES = (
    page_of_jobs.router,
    cancel.router,
    page_of_job.router,
    jobacts.router,
    live.router,
    post.router,
    conductors.router,
    door.router,
    assets.router,
)


def create_app(
    poster: Poster,
    *,
    limits: Limits | None = None,
    https: bool = False,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """The API of a store.

    Args:
        poster: stays the caller's, who closes it once the application serves no more.
        limits: of each caller; default: those of `Limits`.
        https: whether browsers reach it by https alone, by way of a proxy: cookies are for that only then.
        hosts: the names by which it may be asked for, without ports; default: any.
    """
    limits = limits or Limits()
    feed = Feed(poster, per_caller=limits.streams)

    app = _application(feed)
    app.state.poster = poster
    app.state.feed = feed
    app.state.https = https
    app.state.wrong_tokens = Bucket(limits.wrong_tokens)
    for router in (*ROUTERS, *PAGES):
        app.include_router(router)
    _handle_errors(app)
    _describe(app)
    app.add_middleware(
        Gate,
        credentials=poster.credentials,
        limits=limits,
        wrong_tokens=app.state.wrong_tokens,
        hosts=None if hosts is None else frozenset(hosts),
        answer_of=answer_of,
    )
    app.add_middleware(Head)
    app.add_middleware(Headers)  # added last, so the outermost
    return app


def _application(feed: Feed) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await feed.close()

    return FastAPI(
        lifespan=lifespan,
        title="Ebbtide",
        summary="Cancelable jobs: what a cancelled job had done is undone, in reverse order.",
        version="1",
        openapi_url="/api/v1/openapi.json",
        # Their pages would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(EbbtideError)
    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, EbbtideError)
        problem = problem_of(error)
        if problem.status == 503:
            LOG.warning("api.store_unavailable %s %s: %s", request.method, request.url.path, error)
        if isinstance(error, FlowNotFound) and request.url.path == jobs.router.prefix:
            problem = Problem(
                422, problem.name, problem.title, problem.detail, problem.facts, problem.headers
            )
        return answer_of(request.scope, problem)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return answer_of(request.scope, error.problem)

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer_of(request.scope, _unfit(error))

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        names = {404: "not-found", 405: "method-not-allowed"}
        name = names.get(error.status_code, "http-error")
        detail = f"there is nothing at this path for {request.method[:20]}"
        return answer_of(
            request.scope, Problem(error.status_code, name, str(error.detail), detail, {}, headers)
        )

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        # Starlette logs it, with its traceback, after this has been answered.
        return answer_of(
            request.scope,
            Problem(500, "fault", "A fault of this program", "a fault of the server; its log tells", {}, {}),
        )


def _unfit(error: RequestValidationError) -> Problem:
    """What FastAPI found: 400 for path, query and a missing body, else 422 with a pointer to each place."""
    found = error.errors()
    places = [each["loc"] for each in found]
    if any(place[0] == "path" for place in places) and "job_id" in {place[-1] for place in places}:
        return Problem(400, "invalid-job-id", "No id of a job", "ids are hexadecimal digits and -", {}, {})
    told = [{"pointer": _pointer(each["loc"]), "detail": str(each["msg"])} for each in found]
    detail = "; ".join(f"{each['pointer'] or 'the body'}: {each['detail']}" for each in told)[:1000]
    facts: dict[str, Any] = {"errors": told}
    if any(place[0] != "body" for place in places):
        return Problem(400, "invalid-parameter", "A wrong parameter", detail, facts, {})
    if places == [("body",)] and found[0]["type"] == "missing":
        return Problem(400, "invalid-json", "No JSON", "the body is empty: a JSON object is wanted", {}, {})
    return Problem(422, "invalid-body", "The body does not fit", detail, facts, {})


def _pointer(place: tuple[int | str, ...]) -> str:
    """A JSON pointer into the body; of a parameter its name."""
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in place[1:]]
    return "".join(f"/{step}" for step in steps) if place[0] == "body" else "/".join(steps)


def _describe(app: FastAPI) -> None:
    """The description without what is not so: FastAPI's own answers for what does not validate."""
    made = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        schema = made()
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {})["ProblemModel"] = ProblemModel.model_json_schema()
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
        for path in schema["paths"].values():
            for operation in path.values():
                told = operation["responses"].get("422", {}).get("content", {})
                if "application/json" in told:
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)
        return schema

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation has it
