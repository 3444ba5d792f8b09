"""Refusal: a problem, told as a page to those who look at pages."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ebbtide.api.headers import Scope
from ebbtide.api.page.printing import printed
from ebbtide.api.problems import MEDIA_TYPE, Problem

__all__ = ["answer_of"]

_TITLES = {
    "job-not-found": "There is no such job",
    "unknown-flow": "There is no such flow",
    "not-found": "There is no such page",
    "store-unavailable": "The store is away",
    "commit-unknown": "The store is away",
    "answer-lost": "It is stored",
    "csrf": "This form is too old",
    "insufficient-scope": "You may not do this",
    "too-many-requests": "Too many requests",
    "fault": "Something is broken here",
}
_HINTS = {
    "job-not-found": "It may have been removed, or it belongs to somebody else: then it is not shown either.",
    "unknown-flow": "Conductors publish the flows that they know when they start.",
    "not-found": "The address leads nowhere.",
    "store-unavailable": "Nothing that you asked for was stored. Jobs that run go on, and are shown again "
    "as soon as the store can be used.",
    "commit-unknown": "Look at the jobs before you do it again: it may be stored.",
    "answer-lost": "What you asked for is stored; only the job cannot be shown now. Do not ask again.",
    "csrf": "It came from another session or another site, and nothing was changed. Go back, load the page "
    "again and repeat what you did.",
    "insufficient-scope": "Nothing was changed. Sign in with a token of another role, or ask somebody else.",
    "too-many-requests": "Wait a moment, then try again.",
    "fault": "Whether what you asked for was done is not known: look before you repeat it. The log of the "
    "server tells more.",
}


def answer_of(scope: Scope, problem: Problem) -> Response:
    """JSON for programs and for the API's paths; a page for browsers, or the way to the login."""
    if not _looks_at_pages(scope):
        return Response(problem.body(), problem.status, headers=dict(problem.headers), media_type=MEDIA_TYPE)
    request = Request(scope)
    if problem.status == 401:
        here = _here(request)
        wanted = {"next": here} if request.method == "GET" and here != "/" else {}
        return RedirectResponse(f"/login?{urlencode(wanted)}" if wanted else "/login", 303)
    page = printed(
        request,
        "refusal.html",
        problem.status,
        title=_TITLES.get(problem.name, problem.title),
        problem=problem,
        hint=_HINTS.get(problem.name),
    )
    page.headers.update(problem.headers)
    return page


def _looks_at_pages(scope: Scope) -> bool:
    path: str = scope["path"]
    return not path.startswith("/api/") and "text/html" in Headers(scope=scope).get("accept", "")


def _here(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
