"""What Ctrl-C does to a command: it ends at once and in silence, except where somebody waits to hear of it.

Python raises KeyboardInterrupt between any two instructions. Within an import it is shown with a traceback;
within a finaliser it is shown and forgotten, and the command goes on. So it is raised only where it is
caught. This module is loaded before anything else: it imports next to nothing.
"""

import os
import signal

INTERRUPTED = 128 + signal.SIGINT  # as shells have it


def leave(number: int, frame: object) -> None:
    """The handler of a command that has nothing to put in order: a transaction that is open is undone."""
    os._exit(INTERRUPTED)


def guard() -> None:
    """Have Ctrl-C end this process from now on, unless whoever started it has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


class Raised:
    """A block in which Ctrl-C raises KeyboardInterrupt, for those who put something in order first.

    Args:
        others: signals that do the same there, unless somebody has them ignored or handled.
    """

    def __init__(self, *others: signal.Signals) -> None:
        self._others = others

    def __enter__(self) -> None:
        guarded = (signal.SIGINT, leave), *((number, signal.SIG_DFL) for number in self._others)
        self._before = {number: how for number, how in guarded if signal.getsignal(number) is how}
        for number in self._before:
            signal.signal(number, signal.default_int_handler)

    def __exit__(self, *raised: object) -> None:
        for number, how in self._before.items():
            signal.signal(number, how)
