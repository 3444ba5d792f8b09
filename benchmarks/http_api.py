"""What the API costs: a first page, live lists while jobs change, and a stop with streams open."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from measuring import FLOWS, arguments, database, heading, median_ms, scratch, table

from ebbtide.flows import load_flows
from ebbtide.jobs import Poster, Selection
from ebbtide.jobs.credentials import Role

SAMPLES = 30
POSTERS = 4  # threads
BATCHES_PER_SECOND = 10
ON_A_PAGE = 100


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="queued jobs")
    parser.add_argument("--pages", type=int, default=10, help="streams that are read meanwhile")
    parser.add_argument("--updates", type=int, default=200, help="jobs that change in a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long they do")
    parser.add_argument("--streams", type=int, default=100, help="open when the server is told to stop")
    options = parser.parse_args()

    heading(options.database)
    with (
        scratch(options.folder) as place,
        database(options.database, place) as url,
        Poster(url, registry=load_flows([FLOWS])) as poster,
    ):
        tokens = [poster.credentials.create(f"user{n}", Role.ADMIN)[0] for n in range(4)]
        with ThreadPoolExecutor(POSTERS) as posters:
            list(posters.map(lambda _: poster.post("measured.linear"), range(options.jobs)))
        with server(url) as (process, host):
            first, page = (
                median_ms([first_page(host, tokens[0], path) for _ in range(SAMPLES)])
                for path in ("/api/v1/jobs", "/")
            )
            shares = [
                live(process, host, tokens, poster, path, options)
                for path in ("/api/v1/events", "/live?list=")
            ]
        with server(url) as (process, host):
            stop = stopped(process, host, tokens, options.streams)
    table(
        f"{options.jobs:,} jobs",
        ["first page, ms", "the same as HTML, ms", f"stop, {options.streams} streams, s"],
        [[f"{first:.1f}", f"{page:.1f}", f"{stop:.2f}"]],
    )
    table(
        f"{options.pages} streams are read while jobs change",
        ["stream of", "share of a core", "changes per second"],
        [
            [what, f"{100 * share:.1f} %", f"{rate:.0f}"]
            for what, (share, rate) in zip(("the API", "the page"), shares, strict=True)
        ],
    )


@contextlib.contextmanager
def server(url: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`ebbtide api` in a process, and where it listens."""
    words = [sys.executable, "-m", "ebbtide", "api", "--port", "0", "--json", "--log-level", "error"]
    environment = os.environ | {"EBBTIDE_DATABASE": url}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, urlsplit(json.loads(process.stdout.readline())["api"]).netloc
        finally:
            process.terminate()


def asked(host: str, token: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"{path} was answered with {response.status}")
    return response


def first_page(host: str, token: str, path: str) -> float:
    began = time.perf_counter()
    with asked(host, token, path) as response:
        response.read()
    return time.perf_counter() - began


def live(
    process: subprocess.Popen[str],
    host: str,
    tokens: list[str],
    poster: Poster,
    path: str,
    options: object,
) -> tuple[float, float]:
    """The share of a core that the server takes while so many read this stream, and how many jobs a second
    changed meanwhile.
    """
    pages, updates, seconds = (getattr(options, name) for name in ("pages", "updates", "seconds"))
    readers = [
        subprocess.Popen(
            [
                "curl",
                "-sN",
                "-H",
                f"Authorization: Bearer {tokens[n % len(tokens)]}",
                f"http://{host}{path}",
            ],
            stdout=subprocess.DEVNULL,
        )
        for n in range(pages)
    ]
    try:
        before, began = processor_seconds(process.pid), time.perf_counter()
        changed = change(poster, updates, seconds)
        passed = time.perf_counter() - began
        return (processor_seconds(process.pid) - before) / passed, changed / passed
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


def change(poster: Poster, updates: int, seconds: float) -> int:
    """Pause and resume the newest jobs, which all lists show, in batches; returns how many changed."""
    shown = [job.id for job in poster.list(limit=ON_A_PAGE)]
    size = max(1, updates // BATCHES_PER_SECOND)
    batches = [shown[begin : begin + size] for begin in range(0, len(shown), size)]
    verbs = itertools.cycle((poster.pause_many, poster.resume_many))
    turns = ((verb, batch) for verb in verbs for batch in batches)
    began, changed, pause = time.perf_counter(), 0, threading.Event()
    while (passed := time.perf_counter() - began) < seconds:
        if changed >= passed * updates:
            pause.wait(0.001)
            continue
        verb, batch = next(turns)
        changed += sum(answer.done for answer in verb(Selection(ids=batch)))
    return changed


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stopped(process: subprocess.Popen[str], host: str, tokens: list[str], streams: int) -> float:
    """Seconds from SIGTERM to the end of the server, with so many streams open."""
    responses = [asked(host, tokens[n % len(tokens)], "/api/v1/events") for n in range(streams)]
    for response in responses:
        response.readline()
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.wait()
    took = time.perf_counter() - began
    for response in responses:
        response.close()
    return took


if __name__ == "__main__":
    main()
