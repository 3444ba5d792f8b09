"""Which boards there are, and which one the options choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ebbtide.config import Settings
from ebbtide.errors import ConfigError
from ebbtide.jobs.boards.board import Board, Notice
from ebbtide.jobs.linkhealth import Health
from ebbtide.jobs.sending import Sender
from ebbtide.wording import one_line

__all__ = ["BOARDS", "MEANWHILE", "open_boards", "open_postings"]

MEANWHILE = "until it is mended jobs are claimed in the ledger alone"


def open_boards(settings: Settings) -> Callable[[], Board] | None:
    """Makes links to the board that the option `board` names; None: there is none. Connects nowhere itself.

    Raises:
        ConfigError: there is none of that name, or something of it is missing.
    """
    if settings.board not in BOARDS:
        raise ConfigError(f"board {one_line(settings.board, 40)} is not known; known: {', '.join(BOARDS)}")
    return BOARDS[settings.board](settings)


def open_postings(settings: Settings) -> Sender[Board, Notice] | None:
    """Posts to that board from a thread of its own: no client waits for it. None: there is none.

    What finds no room there, or no server, is posted by the conductors.
    """
    open_board = open_boards(settings)
    if open_board is None:
        return None

    def post(board: Board, notices: Mapping[str, Notice]) -> None:
        room = max(0, settings.board_window - board.count())
        for notice in sorted(notices.values(), key=lambda notice: notice.rank)[:room]:
            board.post(notice)

    return Sender(
        f"ebbtide-post-{settings.board}",
        Health("board", settings.board, MEANWHILE),
        open_board,
        post,
        f"board.not_posted {settings.board}",
    )


def _none(settings: Settings) -> None:
    return None


def _zookeeper(settings: Settings) -> Callable[[], Board]:
    from ebbtide.jobs.boards.zookeeper import ZookeeperBoard  # slow to import
    from ebbtide.jobs.ensemble import Ensemble

    ensemble = Ensemble.of(settings)
    return lambda: ZookeeperBoard(ensemble)


def _redis(settings: Settings) -> Callable[[], Board]:
    from ebbtide.jobs.boards.redis import RedisBoard  # its package is not everywhere
    from ebbtide.jobs.redisclient import require_redis_url

    require_redis_url(settings.redis_url)
    return lambda: RedisBoard(settings.redis_url, settings.redis_channel)


BOARDS: dict[str, Callable[[Settings], Callable[[], Board] | None]] = {
    "none": _none,
    "zookeeper": _zookeeper,
    "redis": _redis,
}
