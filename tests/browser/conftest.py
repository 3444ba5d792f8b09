"""A browser, everything that `ebbtide up` starts, and pages that may not complain of anything."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ebbtide.jobs import Poster, clock
from ebbtide.jobs.credentials import Role
from tests.services.absence import missing

PATIENCE_SECONDS = 30.0
_MILLISECONDS = 1000


def wait_until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"never: {what}"
        threading.Event().wait(0.02)


@dataclass
class Server:
    """`ebbtide up` with the flows of this folder, on a port that is its own while it is down too."""

    database: str
    port: int
    process: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, str]:
        """Start it, and return the URLs that it tells once it listens."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("EBBTIDE_")}
        environment = inherited | {
            "EBBTIDE_DATABASE": self.database,
            "EBBTIDE_FLOW_MODULES": "flows_of_the_browser",
            "EBBTIDE_REVERT_RETRIES": "0",
            "EBBTIDE_RUNNERS": "4",
            "EBBTIDE_LOG_LEVEL": "error",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        }
        words = [sys.executable, "-m", "ebbtide", "up", "--port", str(self.port), "--json"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        told: dict[str, str] = json.loads(self.process.stdout.readline())
        return told

    def stop(self) -> None:
        """End it, in any case."""
        if self.process is None:
            return
        with self.process as process:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self.process = None


@dataclass
class Site:
    """What serves the page, and the store behind it."""

    url: str
    login: str
    poster: Poster
    folder: Path
    server: Server

    def gate(self, name: str) -> Path:
        return self.folder / name

    def post(self, flow: str = "steps", params: dict[str, Any] | None = None, **more: Any) -> str:
        """Post a job of ann's."""
        return self.poster.acting_for("ann", jobs_of="ann").post(flow, params or {}, **more).id

    def conductor(self, *, lease_seconds: float = 1000, **told: Any) -> None:
        """Write down a conductor that says this of itself, and runs nothing."""
        values = {
            "id": told.get("name"),
            "host": "vm",
            "pid": 7,
            "boot_id": clock.boot_id(),
            "flows": "[]",
            "started_at": time.time(),
            "lease_until": clock.boot_seconds() + lease_seconds,
            "runners": 2,
            **told,
        }
        names = ", ".join(values)
        with contextlib.closing(sqlite3.connect(self.folder / "ebbtide.db")) as store, store:
            store.execute(f"INSERT INTO conductors ({names}) VALUES (:{', :'.join(values)})", values)

    def wait(self, job: str, phase: str) -> None:
        wait_until(lambda: self.poster.show(job).phase == phase, f"{job} is {phase}")

    def at_the_gate(self, job: str) -> None:
        wait_until(lambda: "hold" in self.poster.show(job).current, f"{job} is at its gate")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`ebbtide up` with the flows of this folder, on a store of this module's own."""
    folder = tmp_path_factory.mktemp("site")
    database = f"sqlite:///{folder / 'ebbtide.db'}"
    with socket.socket() as place:
        # Bound but not listening: others are given other ports, the server may take this one again and again.
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        server = Server(database, place.getsockname()[1])
        try:
            told = server.start()
            with Poster(database, flow_modules=["tests.browser.flows_of_the_browser"]) as poster:
                wait_until(lambda: poster.conductors() and poster.catalogue.flows(), "the conductor is ready")
                yield Site(told["api"], told["login"], poster, folder, server)
        finally:
            server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium. Of one module: the event loop that drives it keeps other tests from theirs."""
    chromium = shutil.which("chromium")
    if chromium is None:
        missing("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_SECONDS * _MILLISECONDS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def token(site: Site) -> Callable[..., str]:
    """A new token; of ann's jobs unless told otherwise."""

    def create(role: str = "operator", name: str = "ann") -> str:
        jobs_of = None if role == "admin" else name
        return site.poster.credentials.create(name, Role(role), jobs_of=jobs_of)[0]

    return create


@pytest.fixture
def visit(browser: Any, site: Site, token: Callable[..., str]) -> Iterator[Callable[..., Any]]:
    """Open the page as somebody who has logged in; returns its tab.

    What any tab complains of fails the test: errors, dialogs, refusals by the policy, requests to elsewhere.
    """
    complaints: list[str] = []
    contexts: list[Any] = []

    def complain(what: str) -> None:
        complaints.append(what)

    def answer(dialog: Any) -> None:
        complain(f"dialog: {dialog.message}")
        dialog.dismiss()

    def hear(told: Any) -> None:
        if told.type in ("error", "warning"):
            complain(told.text)

    def look(asked: Any) -> None:
        if not asked.url.startswith(site.url):
            complain(f"asked elsewhere: {asked.url}")

    def watch(page: Any) -> None:
        page.on("pageerror", lambda error: complain(f"error: {error}"))
        page.on("console", hear)
        page.on("dialog", answer)
        page.on("request", look)

    def open_tab(role: str | None = "operator", name: str = "ann", **options: Any) -> Any:
        context = browser.new_context(base_url=site.url, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_SECONDS * _MILLISECONDS)
        context.on("page", watch)
        if role is not None:
            context.add_cookies([{"name": "ebbtide_session", "value": session(role, name), "url": site.url}])
        page = context.new_page()
        page.forgive = forgive
        return page

    def session(role: str, name: str) -> str:
        opened = site.poster.credentials.open_session(token(role, name))
        assert opened is not None
        return opened[0]

    def forgive(what: object) -> None:
        """What the test has provoked: an answer of that status, or a complaint with that text."""
        words = f"status of {what}" if isinstance(what, int) else str(what)
        complaints[:] = [each for each in complaints if words not in each]

    yield open_tab
    for context in contexts:
        context.close()
    assert complaints == []
