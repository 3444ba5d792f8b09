"""Makes the screenshots in docs/images: python docs/screenshots.py

Starts `ebbtide up` on a store of its own, posts jobs of the flow below, and looks at the page with Chromium.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows import flow, savepoint
from ebbtide.jobs import Poster
from ebbtide.tasks import CancelableTask

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1280, 800
PATIENCE_SECONDS = 60.0

# Undos that stand still do so until the file with this name is there.
_GATE = "SCREENSHOTS_GATE"
_pause = threading.Event()  # never set


class Step(CancelableTask):
    """Do a part of the work, or stand still at it. Undo: take it back; it may stand still too, or fail."""

    def execute(self, album: str, stops_at: str, fails_at: str) -> None:
        if self.name == fails_at:
            raise ConnectionError("the gallery does not answer")
        self.report(0.6, "312 of 520 photos")
        while self.name == stops_at:
            self.cancel.check()
            self.cancel.wait(0.05)

    def revert(self, undo_stops_at: str, undo_fails_at: str) -> None:
        if self.name == undo_fails_at:
            raise ConnectionError("the gallery does not answer")
        while self.name == undo_stops_at and not Path(os.environ[_GATE]).exists():
            _pause.wait(0.05)


@flow("publish-album")
def publish_album(
    album: str, stops_at: str = "", fails_at: str = "", undo_stops_at: str = "", undo_fails_at: str = ""
) -> linear_flow.Flow:
    """Publish an album in the gallery."""
    sizes = unordered_flow.Flow("sizes").add(*(Step(name=f"resize-{size}") for size in ("s", "m", "l")))
    rest = [Step(name=name) for name in ("upload", "index", "announce")]
    return linear_flow.Flow("publish-album").add(Step(name="scan"), sizes, savepoint("sizes"), *rest)


def post_all(poster: Poster) -> dict[str, str]:
    """A job in each of several states, by its state."""
    ann = poster.acting_for("ann", jobs_of="ann")

    def post(album: str, team: str, delay_seconds: float = 0, **params: str) -> str:
        labels = {"team": team}
        return ann.post(
            "publish-album", {"album": album, **params}, labels=labels, delay_seconds=delay_seconds
        ).id

    jobs = {
        "completed": post("winter", "north"),
        "failed": post("attic", "south", fails_at="index"),
        "cancelled": post("drafts", "south", stops_at="upload"),
        "parked": post("spring", "north", stops_at="announce", undo_fails_at="upload"),
        "paused": post("garden", "south", delay_seconds=3600),
        "scheduled": post("tomorrow", "north", delay_seconds=3600),
        "cancelling": post("summer", "north", stops_at="announce", undo_stops_at="upload"),
        "running": post("harbour", "south", stops_at="index"),
    }
    ann.pause(jobs["paused"])

    def reaches(state: str, task: str) -> None:
        wait_until(lambda: task in poster.show(jobs[state]).current, f"the one to be {state} is at {task}")

    for state, task, reason in (
        ("cancelled", "upload", "not yet"),
        ("parked", "announce", "wrong year"),
        ("cancelling", "announce", "wrong folder"),
    ):
        reaches(state, task)
        ann.cancel(jobs[state], reason)
    for state in jobs:
        wait_until(lambda state=state: poster.show(jobs[state]).phase == state, f"one is {state}")
    reaches("running", "index")
    reaches("cancelling", "upload")
    return jobs


def take_all(page: Any, jobs: dict[str, str], scheme: str) -> None:
    """Look at each page and keep what is seen."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    if scheme == "dark":
        addresses = {"job-dark": f"/jobs/{jobs['cancelling']}"}
    else:
        addresses = {
            "jobs": "/",
            "job-undone": f"/jobs/{jobs['cancelling']}",
            "cancel": f"/jobs/{jobs['running']}/cancel",
        }
    for name, address in addresses.items():
        page.goto(address)
        page.screenshot(path=IMAGES / f"{name}.png")


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, str, Poster]]:
    """`ebbtide up` on a store in the folder: its URL, the one that logs in, and a poster."""
    database = f"sqlite:///{folder / 'ebbtide.db'}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EBBTIDE_")} | {
        "EBBTIDE_DATABASE": database,
        "EBBTIDE_FLOW_MODULES": "screenshots",
        "EBBTIDE_REVERT_RETRIES": "0",
        "EBBTIDE_RUNNERS": "4",
        "EBBTIDE_LOG_LEVEL": "error",
        "LOGNAME": "ann",
        "PYTHONPATH": str(Path(__file__).parent),
        _GATE: str(folder / "gate"),
    }
    words = [sys.executable, "-m", "ebbtide", "up", "--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            with Poster(database) as poster:
                wait_until(poster.catalogue.flows, "the conductor publishes its flows")
                yield told["api"], told["login"], poster
        finally:
            (folder / "gate").touch()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until(happened: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited in vain: {what}")
        _pause.wait(0.05)


def main() -> None:
    """Make all of them."""
    from playwright.sync_api import sync_playwright

    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as (url, login, poster),
        sync_playwright() as playwright,
    ):
        jobs = post_all(poster)
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page(base_url=url, viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(login)
        for scheme in ("light", "dark"):
            take_all(page, jobs, scheme)
        chromium.close()


if __name__ == "__main__":
    main()
