"""Session: a browser logs in with a token or a one-time URL, and out again."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from ebbtide.api.gate import COOKIE, Caller, wait_for
from ebbtide.api.problems import ApiError
from ebbtide.jobs import Poster
from ebbtide.jobs.credentials import SESSION_SECONDS

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

# No second / and no \ after the first: browsers would take what follows for the name of a host.
_OWN_PAGE = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,2000}")


@router.get("/login/{code}")
def log_in_once(request: Request, code: Annotated[str, Path(max_length=100)]) -> Response:
    """The URL that `ebbtide up` prints. It opens one session, and is worth nothing then."""
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        # Somebody else's link would make whoever follows it work under a name that is not his own.
        raise ApiError(
            403,
            "csrf",
            "Not from a page of ours",
            "a login URL is not followed from another site: put it into the address bar yourself",
        )
    return _opened(request, code)


@router.post("/login")
def log_in(request: Request) -> Response:
    """The form of the login page; its field `token` is what `ebbtide token create` printed."""
    form = request.state.form
    return _opened(request, form.get("token", "").strip(), form.get("next", ""))


@router.post("/logout")
def log_out(request: Request) -> Response:
    """End the session."""
    caller: Caller | None = request.state.caller
    if caller is not None and caller.session is not None:
        poster: Poster = request.app.state.poster
        poster.credentials.close_session(caller.session)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _opened(request: Request, secret: str, wanted: str = "") -> Response:
    host = request.client.host if request.client else ""
    bucket = request.app.state.wrong_tokens
    wait_for(bucket.is_empty(host))
    poster: Poster = request.app.state.poster
    opened = poster.credentials.open_session(secret)
    if opened is None:
        bucket.take(host)
        return RedirectResponse(f"/login?{urlencode({'problem': 'token'} | _next(wanted))}", 303)
    response = RedirectResponse(_next(wanted).get("next", "/"), 303)
    response.set_cookie(
        COOKIE,
        opened[0],
        max_age=int(SESSION_SECONDS),
        httponly=True,
        samesite="strict",
        secure=request.app.state.https or request.url.scheme == "https",
    )
    return response


def _next(wanted: str) -> dict[str, str]:
    """Where somebody wanted to go who had to log in first; nothing if that is not a page of ours."""
    return {"next": wanted} if _OWN_PAGE.fullmatch(wanted) else {}
