"""The options that choose a board, with a place in it for a single test; and what is on it, past our code."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def board_options(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """The options for the board of a name; the server that it is on runs then."""

    def choose(kind: str) -> dict[str, Any]:
        options: dict[str, Any] = {"board": kind}
        if kind == "redis":
            options["redis_url"] = request.getfixturevalue("redis_database")
            options["redis_channel"] = request.getfixturevalue("redis_channel")
        if kind == "zookeeper":
            options["zookeeper_hosts"] = request.getfixturevalue("zookeeper").hosts
            options["zookeeper_path"] = request.getfixturevalue("zookeeper_path")
        return options

    return choose


@pytest.fixture
def boards(board_options: Callable[[str], dict[str, Any]]) -> Iterator[Callable[..., Any]]:
    """Opens a link to the board of a name, as another process would have it."""
    import contextlib

    from ebbtide.config import Settings
    from ebbtide.jobs.boards import open_boards

    chosen: dict[str, Any] = {}
    with contextlib.ExitStack() as links:

        def make(kind: str, **changed: Any) -> Any:
            if kind not in chosen:
                chosen[kind] = board_options(kind)
            open_board = open_boards(Settings(database="sqlite:///none.db", **(chosen[kind] | changed)))
            assert open_board is not None
            return links.enter_context(contextlib.closing(open_board()))

        yield make
