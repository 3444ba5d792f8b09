"""Browsers without JavaScript: what they ask for, follow and send."""

import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ebbtide.api.gate import COOKIE, csrf_token


class Browser(TestClient):
    """Somebody who has logged in, and sends forms as a browser does."""

    def look(self, path: str) -> str:
        """The text of a page that is there."""
        response = self.get(path)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/html")
        return response.text

    def fill(self, path: str, **fields: Any) -> Any:
        """A form of a page of ours."""
        fields = {"csrf": csrf_token(self.cookies[COOKIE]), **fields}
        return self.post(path, data=fields, headers={"Origin": "http://testserver"})


def shown(page: str) -> str:
    """What can be read on a page."""
    body = re.sub(r"<(script|style|svg).*?</\1>", "", page.partition("<main")[2], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


class _Fields(HTMLParser):
    """What stands in the fields of the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._inside: str | None = None
        self._option: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        if tag == "input" and of.get("type") != "checkbox":
            self.found[of["name"]] = of.get("value", "")
        elif tag in ("textarea", "select"):
            self._inside = of["name"]
            if tag == "textarea":
                self.found[self._inside] = ""
        elif tag == "option" and self._inside and ("selected" in of or self._inside not in self.found):
            self.found[self._inside] = of.get("value", "")
            self._option = self._inside if "value" not in of else None

    def handle_data(self, data: str) -> None:
        if self._option:
            self.found[self._option] = data
        elif self._inside and self.lasttag == "textarea":
            self.found[self._inside] += data

    def handle_endtag(self, tag: str) -> None:
        self._option = None
        if tag == "textarea" and self._inside:
            self.found[self._inside] = "\r\n".join(self.found[self._inside].removeprefix("\n").splitlines())
        if tag in ("textarea", "select"):
            self._inside = None


def sent_as_it_is(page: str) -> dict[str, str]:
    """What a browser sends of the form of a page that nobody has touched."""
    reader = _Fields()
    reader.feed(page.partition("<main")[2])
    return reader.found


@pytest.fixture
def anonymous(app: FastAPI) -> TestClient:
    """A browser of somebody who has not logged in."""
    return TestClient(
        app, headers={"Accept": "text/html"}, follow_redirects=False, raise_server_exceptions=False
    )


@pytest.fixture
def browse(app: FastAPI, token: Callable[..., str]) -> Callable[..., Browser]:
    """The browser of somebody of that role and name."""

    def make(role: str = "operator", name: str = "ann") -> Browser:
        browser = Browser(
            app, headers={"Accept": "text/html"}, follow_redirects=False, raise_server_exceptions=False
        )
        assert browser.post("/login", data={"token": token(role, name)}).status_code == 303
        return browser

    return make


@pytest.fixture
def browser(browse: Callable[..., Browser]) -> Browser:
    """Ann's, an operator."""
    return browse()
