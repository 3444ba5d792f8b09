"""The benchmarks run and print their tables. What they measure is asked of nobody here: sizes are tiny."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# Script, the smallest run, and what every table of it has to show, whichever the database.
RUNS = {
    "cancel_latency.py": (
        ["--rounds", "2", "--signal", "auto", "file"],
        ["signal auto, 2 times", "committed -> event set in the task", "signal  called p50", "file  "],
    ),
    "stop_ladder.py": (
        ["--rounds", "2"],
        ["ended with its tree, 2 times", "SIGKILL -> tree proven dead", "claimed again -> job cancelled"],
    ),
    "async_tasks.py": (
        ["--tasks", "3"],
        ["AsyncTasks in one runner, seconds", "cancel -> all cleaned up"],
    ),
    "per_task.py": (
        ["--rounds", "1", "--tasks", "2"],
        ["linear 2", "unordered 2", "stock", "commits/task"],
    ),
    "jobs_per_second.py": (
        ["--jobs", "5", "--rounds", "3", "--calls", "10"],
        ["5 jobs of one step, 2 runners", "posted -> task begins", "one claim", "execute(), wrapped"],
    ),
    "board_backlog.py": (
        ["--jobs", "6", "8", "--measured", "2", "--conductors", "2"],
        ["2 conductors", "jobs per second with so many waiting", "ebbtide, board none"],
    ),
    "http_api.py": (
        ["--jobs", "5", "--pages", "2", "--seconds", "0.5", "--streams", "3"],
        ["first page, ms", "stop, 3 streams, s", "2 streams are read", "the page  ", "changes per second"],
    ),
    "queued_jobs.py": (
        ["--jobs", "3", "5"],
        ["milliseconds for one", "seconds for all", "cancel by label"],
    ),
}


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def store(request) -> Iterator[list[str]]:
    """The options that choose it. A benchmark leaves no database on a server."""
    if request.param == "SQLite":
        yield []
        return
    server = request.getfixturevalue("postgresql")
    databases = server.query("postgres", "SELECT datname FROM pg_database ORDER BY 1")
    yield ["--database", f"postgresql://postgres@127.0.0.1:{server.port}/postgres"]
    assert server.query("postgres", "SELECT datname FROM pg_database ORDER BY 1") == databases


@pytest.mark.timeout(180)  # real conductors, and stock TaskFlow, which is slow on a busy machine
@pytest.mark.parametrize("script", RUNS)
def test_a_benchmark_prints_its_tables(script, store, tmp_path):
    options, shown = RUNS[script]

    ran = subprocess.run(
        [sys.executable, BENCHMARKS / script, "--folder", tmp_path, *store, *options],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert [text for text in shown if text not in ran.stdout] == []
    assert ("PostgreSQL" if store else "SQLite") in ran.stdout.partition("\n")[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["redis", "zookeeper", "file", "request-file", "dropped"])
def test_each_signal_can_be_measured(kind, tmp_path, request):
    servers = {
        "redis": lambda: {"EBBTIDE_REDIS_URL": request.getfixturevalue("redis").url()},
        "zookeeper": lambda: {"EBBTIDE_ZOOKEEPER_HOSTS": request.getfixturevalue("zookeeper").hosts},
    }
    told = servers.get(kind, dict)()

    options = ["--folder", tmp_path, "--signal", kind, "--rounds", "2"]
    ran = subprocess.run(
        [sys.executable, BENCHMARKS / "cancel_latency.py", *options],
        env=os.environ | told,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"signal {kind}, 2 times" in ran.stdout
    assert "request called -> event set in the task" in ran.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(180)
def test_each_board_can_be_measured_beside_the_stock_one(tmp_path, zookeeper, redis):
    options = ["--folder", tmp_path, *RUNS["board_backlog.py"][0], "--stock-seconds", "20"]
    servers = ["--zookeeper-hosts", zookeeper.hosts, "--redis-url", redis.url()]

    ran = subprocess.run(
        [sys.executable, BENCHMARKS / "board_backlog.py", *options, *servers],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    for row in ("board none", "board zookeeper", "board redis", "stock TaskFlow's board zookeeper"):
        assert row in ran.stdout


def test_every_script_is_run_here_and_explained():
    scripts = {
        path.name for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")
    }

    assert scripts == set(RUNS)
    explained = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert [name for name in scripts if f"python benchmarks/{name}" not in explained] == []


def test_a_percentile_is_a_value_that_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from measuring import percentile  # type: ignore[import-not-found]  # a script beside the tests

    values = [3.0, 1.0, 2.0, 10.0]

    assert [percentile(values, share) for share in (0.0, 0.5, 0.75, 0.95, 1.0)] == [1.0, 2.0, 3.0, 10.0, 10.0]
