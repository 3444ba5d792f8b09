"""Each shipped flow, cancelled at a tenth, a half and nine tenths of its way: all is as it was before.

Looked at from outside: its files, its tables, its program, what it still has open to a server.

Promises: P5.
"""

import contextlib
import hashlib
import sqlite3
import sys
import threading
from pathlib import Path

import pytest

from ebbtide.flows import agent, command, data_collection, download, file_processing
from tests.services.endpoint import PATH, event, streams
from tests.services.flowrun import FlowRun

assert all((agent, command, data_collection, download, file_processing))  # they register their flows
HEAD = "date,open,high,low,close,volume\n"

on_the_way = pytest.mark.parametrize("share", [0.1, 0.5, 0.9])


def cancelled(run, task, share):
    """Run a flow up to that task, cancel it at that share of the task, and undo it all."""
    before = next(index for index, each in enumerate(run.tasks) if each.name == task)
    if before:
        run.forward(until=run.tasks[before - 1].name)
    run.begin(task, cancel=lambda moment: moment.fraction is not None and moment.fraction >= share)
    assert run.runs[task].cancelled
    reached = max(fraction for fraction, _ in run.runs[task].reports)
    assert share <= reached < 1
    run.back()


@on_the_way
def test_download(site, tmp_path, contents, share):
    destination = tmp_path / "destination"
    destination.mkdir()
    (destination / "a").write_text("before")
    content = bytes(4_000_000)
    files = [{"url": site.page("/a", content), "sha256": hashlib.sha256(content).hexdigest()}]
    run = FlowRun("download", {"files": files, "destination": str(destination), "replace": True})

    cancelled(run, "fetch-1", share)

    assert contents(destination) == {"a": b"before"}


@on_the_way
def test_data_collection(tmp_path, share):
    symbols = [f"{number:06}" for number in range(20)]
    database = tmp_path / "bars.db"
    params = {"source": f"{tmp_path}/{{symbol}}.csv", "database": f"sqlite:///{database}", "per_second": 1000}
    write_bars(tmp_path, symbols, close=1.5)
    FlowRun("data-collection", params | {"symbols": symbols[:3]}, job="earlier").forward()
    before = dumped(database)
    write_bars(tmp_path, symbols, close=1.75)

    cancelled(FlowRun("data-collection", params | {"symbols": symbols}), "collect", share)

    assert dumped(database) == before


def write_bars(folder, symbols, *, close):
    for symbol in symbols:
        (folder / f"{symbol}.csv").write_text(f"{HEAD}2024-01-02,1,2,0.5,{close},100\n")


def dumped(database):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return sorted(connection.iterdump())


@on_the_way
def test_command(tmp_path, contents, share):
    # It waits after each line until the test's runner has read it, and longer: only a signal ends it.
    code = f"""
import os, signal
os.mkdir("out")
for percent in range(0, {round(share * 100) + 1}, 10):
    open(f"out/{{percent}}", "w").write("x")
    print(percent, "%", flush=True)
signal.pause()
"""
    params = {"program": [sys.executable, "-c", code], "folder": str(tmp_path), "outputs": ["out"]}

    cancelled(FlowRun("command", params), "run", share)

    assert contents(tmp_path) == {}


@on_the_way
def test_file_processing(tmp_path, contents, share):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(200):
        (source / f"{number}.txt").write_text(f"{number}\n" * 1000)
    before = contents(tmp_path)
    params = {"source": str(source), "destination": str(tmp_path / "destination")}

    cancelled(FlowRun("file-processing", params), "archive-4", share)

    assert contents(tmp_path) == before


@on_the_way
def test_agent(site, share):
    words = [f"{number} " for number in range(round(share * 10))]
    site.next(PATH, streams(*map(event, words), stall=True))
    params = {"prompt": "Count to ten", "endpoint": f"{site.url}/v1", "model": "small"}
    run = FlowRun("agent", params | {"timeout_seconds": 3600})
    asking = threading.Thread(target=run.begin, args=("ask",))
    asking.start()
    assert site.stalled.wait(30)

    run.runs["ask"].cancel()
    asking.join()

    assert run.runs["ask"].cancelled
    run.back()
    assert connections(site) == 0


def connections(site):
    """How many clients have open to it."""
    port = f":{int(site.url.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(port) and line[3] == "01" for line in lines)
