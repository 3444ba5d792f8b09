"""The options that choose a signal, with a place in it for a single test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def signal_options(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """The options for the signal of a name; the server that it goes through runs then."""

    def choose(kind: str) -> dict[str, Any]:
        options: dict[str, Any] = {"signal": kind}
        if kind == "file":
            options["signal_folder"] = str(tmp_path / "cancellations")
        if kind == "redis":
            options["redis_url"] = request.getfixturevalue("redis_database")
            options["redis_channel"] = request.getfixturevalue("redis_channel")
        if kind == "zookeeper":
            options["zookeeper_hosts"] = request.getfixturevalue("zookeeper").hosts
            options["zookeeper_path"] = request.getfixturevalue("zookeeper_path")
        return options

    return choose
