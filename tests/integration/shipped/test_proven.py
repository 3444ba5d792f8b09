"""The shipped flows are killed, cancelled and overtaken by `ebbtide prove`; disk and database are compared.

EBBTIDE_TEST_POINTS says how many points of each are tried besides the ends of tasks: a number, or `all`.

Promises: P3, P5, P7.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.services.endpoint import END, PATH, event

POINTS = os.environ.get("EBBTIDE_TEST_POINTS", "0")
DOUBLES = "40" if POINTS == "all" else "1"
HEAD = "date,open,high,low,close,volume\n"
CHECK = """
import contextlib
import sqlite3


def rows(params):
    with contextlib.closing(sqlite3.connect(params["database"].removeprefix("sqlite:///"))) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        names = [name for (name,) in tables]
        return {name: sorted(map(str, connection.execute(f"SELECT * FROM {name}"))) for name in names}
"""


@pytest.fixture
def prove(tmp_path):
    """Proves a flow; returns the proof once it has held, with that verdict of every task."""

    def call(flow, params, *options, verdict="undo complete"):
        command = [sys.executable, "-m", "ebbtide", "prove", flow, "--yes", "--json", "--doubles", DOUBLES]
        for name, value in params.items():
            command += ["-p", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
        command += [*options, *([] if POINTS == "all" else ["--points", POINTS])]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode in (0, 1) and "broken" in ended.stdout, ended.stdout + ended.stderr
        proof = json.loads(ended.stdout)
        assert (proof["broken"], proof["unexplained"], proof["stopped"]) == ([], [], None)
        assert ended.returncode == 0, ended.stdout
        assert {task["verdict"] for task in proof["tasks"]} == {verdict}
        assert proof["crashes"] and proof["cancels"] and proof["stale"]
        counts = ", ".join(
            f"{proof[name]} {name}" for name in ("crashes", "cancels", "double_crashes", "stale")
        )
        print(f"{flow}: {len(proof['points'])} of {proof['points_known']} points, {counts}")
        return proof

    return call


@pytest.mark.timeout(1800)
def test_download_is_proven(site, prove, tmp_path):
    folder = tmp_path / "world" / "destination"
    folder.mkdir(parents=True)
    (folder / "a").write_text("before")
    files = [site.page("/a", b"a" * 100_000)]
    params = {"files": files, "destination": str(folder), "replace": True}

    proof = prove("download", params, "--same", str(tmp_path / "world"))

    assert {task["task"] for task in proof["tasks"]} == {"prepare", "fetch-1", "place"}
    assert (folder / "a").read_text() == "before"
    assert [path.name for path in folder.iterdir()] == ["a"]


@pytest.mark.timeout(1800)
def test_data_collection_is_proven(prove, tmp_path):
    (tmp_path / "checking.py").write_text(CHECK)
    source = tmp_path / "source"
    source.mkdir()
    for symbol in ("600000", "000001"):
        (source / f"{symbol}.csv").write_text(f"{HEAD}2024-01-02,1,2,0.5,1.5,100\n")
    database = f"sqlite:///{tmp_path / 'bars.db'}"
    params = {"source": f"{source}/{{symbol}}.csv", "symbols": ["600000", "000001"], "database": database}
    # One collection is there already, of which the proven ones change a row and leave another.
    subprocess.run(
        [sys.executable, "-c", EARLIER, json.dumps(params)], cwd=tmp_path, check=True, capture_output=True
    )
    (source / "000001.csv").write_text(f"{HEAD}2024-01-02,1,2,0.5,1.75,100\n2024-01-03,1,2,0.5,1,7\n")

    prove("data-collection", params, "--check", "checking:rows")


EARLIER = """
import json, sys
from ebbtide.flows.data_collection import data_collection
from ebbtide.flows.registry import registered
from ebbtide.testing import run_task
_, store = registered.get("data-collection").build(json.loads(sys.argv[1]))
from ebbtide.tasks.bars import CollectBars, PrepareTables
for make in (PrepareTables, CollectBars):
    task = make()
    run_task(task, {name: store[name] for name in task.rebind}).result
"""


@pytest.mark.timeout(1800)
def test_file_processing_is_proven(prove, tmp_path):
    world = tmp_path / "world"
    (world / "source").mkdir(parents=True)
    for name in ("a.txt", "b.txt"):
        (world / "source" / name).write_text(f"{name}\n" * 1000)
    before = {path: path.read_bytes() for path in world.rglob("*.txt")}
    params = {"source": str(world / "source"), "destination": str(world / "destination")}

    prove("file-processing", params, "--same", str(world))

    assert {path: path.read_bytes() for path in world.rglob("*") if path.is_file()} == before


@pytest.mark.timeout(1800)
def test_command_is_proven(prove, tmp_path):
    world = tmp_path / "world"
    world.mkdir()
    (world / "mine").write_text("before")
    code = "import os; os.mkdir('out'); open('out/a', 'w').write('a'); open('b', 'w').write('b')"
    params = {"program": [sys.executable, "-c", code], "folder": str(world), "outputs": ["out", "b"]}

    prove("command", params, "--same", str(world), "--flow-module", "ebbtide.flows.command")

    assert [path.name for path in world.iterdir()] == ["mine"]


@pytest.mark.timeout(1800)
def test_agent_is_proven(site, prove):
    site.page(PATH, event("Hel") + event("lo") + END, content_type="text/event-stream")
    params = {"prompt": "Say hello", "endpoint": site.url + "/v1", "model": "small"}

    # An answer changes nothing that could be looked at, or undone.
    prove("agent", params, "--flow-module", "ebbtide.flows.agent", verdict="undo not looked at")

    assert site.asked(PATH)
