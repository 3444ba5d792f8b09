"""An application on a store of its own, somebody of each role, and jobs in any state."""

import contextlib
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ebbtide.api import create_app
from ebbtide.api.limits import Limits
from ebbtide.api.server import Server, configured
from ebbtide.flows import FlowDefinition, Registry
from ebbtide.jobs import Poster
from ebbtide.jobs.catalogue import Catalogue
from ebbtide.jobs.credentials import Role
from ebbtide.jobs.store import Store
from tests.api.flows_of_the_api import add_two, publish_it


@pytest.fixture
def poster(database: str) -> Iterator[Poster]:
    """The poster of an API server: it knows no flow but those that a conductor has published."""
    with Poster(database, registry=Registry()) as opened, Store(database) as store:
        Catalogue(store).publish(
            [FlowDefinition.of("add", add_two, returns="total"), FlowDefinition.of("publish", publish_it)]
        )
        yield opened


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def app(poster: Poster, limits: Limits) -> FastAPI:
    return create_app(poster, limits=limits)


@pytest.fixture
def token(poster: Poster) -> Callable[..., str]:
    """A new token; of ann's jobs unless told otherwise."""

    def create(role: str = "operator", name: str = "ann", **options: Any) -> str:
        options.setdefault("jobs_of", None if role == "admin" else name)
        return poster.credentials.create(name, Role(role), **options)[0]

    return create


@pytest.fixture
def client(app: FastAPI, token: Callable[..., str]) -> Callable[..., TestClient]:
    """Somebody who asks in this process; with a token of that role and name."""

    def make(role: str | None = "operator", name: str = "ann") -> TestClient:
        headers = {} if role is None else {"Authorization": f"Bearer {token(role, name)}"}
        return TestClient(app, headers=headers, raise_server_exceptions=False, follow_redirects=False)

    return make


@pytest.fixture
def ann(client: Callable[..., TestClient]) -> TestClient:
    """An operator."""
    return client()


@pytest.fixture
def post(ann: TestClient) -> Callable[..., str]:
    """Post a job of ann's; returns its id."""

    def call(**more: Any) -> str:
        response = ann.post("/api/v1/jobs", json={"flow": "add", "params": {"a": 1}, **more})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    return call


@pytest.fixture
def ask_for(database: str, poster: Poster) -> Callable[..., None]:
    """Changes the store past all our code."""

    def execute(statement: str, *values: Any) -> None:
        with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
            connection.execute(statement, values)
            connection.commit()

    return execute


@pytest.fixture
def serving(app: FastAPI) -> Iterator[str]:
    """The URL of the application on a free port, in a thread."""
    with served(app) as url:
        yield url


@contextlib.contextmanager
def served(app: FastAPI, port: int = 0) -> Iterator[str]:
    ready = threading.Event()
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = Server(configured(app), app.state.feed, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert ready.wait(20)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
