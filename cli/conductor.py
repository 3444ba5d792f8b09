"""`ebbtide conductor`: run the jobs of a store."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, Whole, pass_invocation, shared_options
from ebbtide.cli.output import emit_line, plain, say
from ebbtide.wording import counted, hide_password

if TYPE_CHECKING:
    from ebbtide.config import Settings


@click.command()
@click.option("--runners", type=Whole(1, 512), metavar="N", help="How many jobs run at once; 2 unless told.")
@click.option(
    "--isolation",
    type=click.Choice(("process", "thread")),
    help="Where jobs run: each in a process of its own, or in this one.",
)
@click.option(
    "--log-level", type=click.Choice(("debug", "info", "warning", "error")), help="The least that is logged."
)
@click.option("--log-json", is_flag=True, help="Log a JSON object a line.")
@shared_options
@pass_invocation
def conductor(
    invocation: Invocation, runners: int | None, isolation: str | None, log_level: str | None, log_json: bool
) -> Exit:
    """Run jobs until told to stop.

    Says on stderr when it is ready, and logs there. Ctrl-C or SIGTERM: it claims no more, lets the running
    tasks end, hands the rest of their jobs to others and ends with 0. A second one hurries.

    Ends with 1 when its keeper is gone, the process that starts its runners. Start it again then, or have a
    service manager do so: the jobs that it held are taken up where they were.
    """
    settings = invocation.settings(runners=runners, isolation=isolation, log_level=log_level)
    from ebbtide.conductor import Conductor

    log_to_stderr(settings.log_level, as_json=log_json)
    Conductor(settings, on_ready=lambda: _tell_ready(settings, invocation.json)).run()
    return Exit.DONE


def _tell_ready(settings: Settings, as_json: bool) -> None:
    name, database = f"{socket.gethostname()}:{os.getpid()}", hide_password(settings.database)
    if as_json:
        emit_line({"conductor": name, "ready": True, "runners": settings.runners, "database": database})
    else:
        say(f"conductor {name} ready: {counted(settings.runners, 'runner')}, database {database}")


def log_to_stderr(level: str, *, as_json: bool) -> None:
    """What Ebbtide logs, from `level` on; of other libraries warnings and worse, unless less is wanted."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonLines() if as_json else _Lines("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    logging.getLogger("ebbtide").setLevel(level.upper())


class _Lines(logging.Formatter):
    """A line a record. Words of users in it can neither move a cursor nor begin a line of their own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.exc_text and not record.exc_info:
            record.exc_text = plain(record.exc_text, keep="\n\t")  # formatted before it came here
        return plain(super().formatMessage(record))

    def formatException(self, raised: Any) -> str:
        return plain(super().formatException(raised), keep="\n\t")


class _JsonLines(logging.Formatter):
    """A JSON object a line: at (UTC), level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        from ebbtide.jobs.records import iso

        entry = {
            "at": iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            entry["traceback"] = record.exc_text
        return json.dumps(entry)
