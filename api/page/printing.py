"""Printing: templates become pages, which escape whatever they are given."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from ebbtide import __version__
from ebbtide.api.gate import Caller, csrf_token
from ebbtide.api.page import words
from ebbtide.api.page.assets import asset
from ebbtide.api.page.notices import notice
from ebbtide.jobs import clock
from ebbtide.jobs.credentials import Role
from ebbtide.jobs.records import iso

__all__ = ["printed", "told"]


def printed(request: Request, template: str, status: int = 200, **facts: Any) -> HTMLResponse:
    """A page made from a template of `templates/`.

    Every template also has: `caller` (None: nobody has logged in), `may_act`, `csrf`, `notice` and `now`.
    """
    caller: Caller | None = getattr(request.state, "caller", None)
    session = caller.session if caller is not None else None
    given = {
        "caller": caller,
        "may_act": caller is not None and caller.role.covers(Role.OPERATOR),
        "csrf": "" if session is None else csrf_token(session),
        "notice": notice(request.query_params, facts["job"].phase if "job" in facts else None),
        "path": request.url.path,
        "now": clock.wall(),
        **facts,
    }
    return HTMLResponse(_environment().get_template(template).render(given), status)


def told(place: str, code: str, **more: str | int) -> Response:
    """The answer to a form that was obeyed: go there, where it is said. `code` is one of `NOTICES`."""
    query = urlencode({"told": code, **more})
    return RedirectResponse(f"{place}{'&' if '?' in place else '?'}{query}", 303)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ebbtide.api.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "age": words.age,
        "clock": _clock,
        "iso": iso,
        "moment": _moment,
        "percent": words.percent,
        "prose": words.prose,
        "span": words.span,
        "standing": words.standing,
    }
    environment.globals |= {"asset": asset, "version": __version__}
    return environment


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
