"""What Ctrl-C does to a command: it ends at once and in silence, except where somebody waits to hear of it.

Python raises KeyboardInterrupt between any two instructions. Within an import it is shown with a traceback;
within a finaliser it is shown and forgotten, and the command goes on; while a library waits for a server no
handler in Python is called at all. So it is raised only where it is caught, and elsewhere the kernel ends the
process, which shells tell as 130. This module is loaded before anything else: it imports next to nothing.
"""

import signal


def guard() -> None:
    """Have Ctrl-C end this process from now on, unless whoever started it has it ignored.

    A command that has nothing to put in order may be ended anywhere: a transaction that is open is undone.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


class Raised:
    """A block in which Ctrl-C raises KeyboardInterrupt, for those who put something in order first.

    Args:
        others: signals that do the same there, unless somebody has them ignored or handled.
    """

    def __init__(self, *others: signal.Signals) -> None:
        self._others = others

    def __enter__(self) -> None:
        numbers = (signal.SIGINT, *self._others)
        self._before = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
        for number in self._before:
            signal.signal(number, signal.default_int_handler)

    def __exit__(self, *raised: object) -> None:
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)
