"""Browsers without JavaScript: what they ask for, follow and send."""

import html
import re
from collections.abc import Callable
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
