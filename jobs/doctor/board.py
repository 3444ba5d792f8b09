"""Whether the board that was chosen serves, and whether it holds no more than it should."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ebbtide.config import Settings
from ebbtide.errors import EbbtideError
from ebbtide.jobs.boards import open_boards
from ebbtide.jobs.boards.registry import MEANWHILE
from ebbtide.jobs.doctor.finding import Finding, fine, note, wrong
from ebbtide.jobs.linkhealth import LinkBroken

__all__ = ["look"]

_SUBJECT = "board"


def look(settings: Settings) -> Iterator[Finding]:
    """The board of the option; without one there is nothing to say."""
    try:
        open_board = open_boards(settings)
    except EbbtideError as error:
        yield wrong(_SUBJECT, str(error), "mend that, or choose another board")
        return
    if open_board is None:
        return
    try:
        with contextlib.closing(open_board()) as board:
            held = len(board.pinned())  # read, not counted: that may be allowed to who may do nothing else
    except LinkBroken as error:
        told = f"{settings.board} cannot be used ({error}): {MEANWHILE}"
        yield wrong(
            _SUBJECT, told, "see that its servers run, that the options name them, and that we may read"
        )
        return
    most = settings.board_window
    if held > 2 * most:  # several may post at a time
        told = f"{settings.board} holds {held} notices, where {most} are the most"
        yield note(_SUBJECT, told, "see that a conductor with this board runs: one at a time keeps it tidy")
    else:
        yield fine(_SUBJECT, f"{settings.board} serves; {held} notices, of {most} at most")
