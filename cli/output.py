"""What the command line prints: data on stdout, words on stderr, and nothing that a terminal would obey.

Names, reasons, messages and log lines come from users and from their tasks. All of them pass `plain` on
their way to a terminal; markup of rich is switched off, so that a task called "[bold]" is shown as such.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Final

import click

from ebbtide.wording import one_line
from ebbtide.wording import percent as percent  # what else is printed comes from here as well
from ebbtide.wording import span as span

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

PROGRAM: Final = "ebbtide"

# Wide enough for any table: in a pipe nothing is cut and nothing is folded.
_PIPE_WIDTH: Final = 100_000

STYLES: Final = {
    "pending": "default",
    "scheduled": "dim",
    "running": "cyan",
    "paused": "blue",
    "parked": "bold magenta",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "reverting": "yellow",
    "overdue": "bold red",
}


def plain(text: object, keep: str = "") -> str:
    """The text with every character escaped that a terminal may obey or that hides others, except `keep`."""
    return "".join(
        character if character.isprintable() or character in keep else ascii(character)[1:-1]
        for character in str(text)
    )


def emit(value: Any) -> None:
    """Print one JSON document on stdout. It is pure ASCII, so it is inert in a terminal as well."""
    click.echo(json.dumps(value, indent=2))


def emit_line(value: Any) -> None:
    """Print one JSON value as one line on stdout, at once: whoever reads the pipe waits for it."""
    click.echo(json.dumps(value, separators=(", ", ": ")))
    sys.stdout.flush()


def say(words: str) -> None:
    """One line of words on stderr."""
    click.echo(f"{PROGRAM}: {plain(words)}", err=True)


def console(stream: IO[str] | None = None) -> Console:
    """A console on `stream` (stdout). Without a terminal: no colours, no cursor movement, no line breaks."""
    from rich.console import Console

    stream = stream or sys.stdout
    terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        width=None if terminal else _PIPE_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )


def show(*renderables: RenderableType) -> None:
    """Print on stdout what rich renders; lines carry no padding at their ends."""
    screen = console()
    with screen.capture() as captured:
        for renderable in renderables:
            screen.print(renderable)
    lines = captured.get().splitlines()
    click.echo("\n".join(line.rstrip() for line in lines), color=screen.is_terminal)


def styled(text: object, style: str = "") -> Text:
    """A table cell: escaped, on one line, and not read as markup."""
    from rich.text import Text

    return Text(plain(text), style=style)


def phase(word: str) -> Text:
    return styled(word, STYLES.get(word, ""))


def columns(names: Sequence[str], rows: Iterable[Sequence[Text | str]], right: Iterable[str] = ()) -> Table:
    """A table without lines, as programs of this kind print them: names on top, one row a line.

    The last column gives way first when the terminal is too narrow.
    """
    from rich.table import Table

    numbers = set(right)
    cells = [[styled(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, name in enumerate(names):
        # rich narrows the columns that may wrap: this one may, its cells may not.
        last = place == len(names) - 1
        table.add_column(name.upper(), justify="right" if name in numbers else "left", no_wrap=not last)
    for row in cells:
        row[-1].no_wrap, row[-1].overflow = True, "ellipsis"
        table.add_row(*row)
    return table


def facts(pairs: Iterable[tuple[str, Text | str]]) -> Table:
    """Name and value, one pair a line; a long value goes on below itself."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, styled(value) if isinstance(value, str) else value)
    return table


def moment(at: float | None) -> str:
    """Local date and time of a unix time."""
    return "" if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def clock(at: float | None) -> str:
    """Local time of day, with milliseconds: the order of what happened within one job."""
    return "" if at is None else datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]


def brief(value: object, limit: int = 120) -> str:
    """One line of a value that may be long: at most `limit` characters of it."""
    return one_line(value, limit)
