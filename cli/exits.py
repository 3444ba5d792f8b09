"""How a command ends: its exit code, and one line on stderr for whatever the user can mend."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from ebbtide.cli.invocation import Invocation
from ebbtide.cli.output import PROGRAM, emit_line, say
from ebbtide.errors import AnswerLost, CommitUnknown, Conflict, EbbtideError, NotFound, StoreUnavailable


class Exit(IntEnum):
    """The exit codes. Those of errors are `exit_code` of the error's family."""

    DONE = 0
    ENDED_BADLY = 1
    USAGE = 2
    UNKNOWN = 3
    NOT_ALLOWED = 4
    STORE = 5
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it
    BROKEN_PIPE = 141  # 128 + SIGPIPE: the reader went away, as after `| head`


EXIT_CODES_HELP = """\
\b
Exit codes:
  0    done (also: the cancel had been requested before)
  1    the job ended badly (post, retry, unpark, cancel, pause and rewind with --wait; watch; demo), or a
       conductor did; or a proof has found something (prove), or an examination has (doctor)
  2    the call is wrong
  3    unknown job or flow
  4    too late, or not allowed in the job's state
  5    the store cannot be used; nothing was stored, unless the message says otherwise
  130  interrupted (Ctrl-C); a job that was waited for goes on
"""


def worst(codes: Iterable[int]) -> int:
    """The exit code of one command about several jobs."""
    return max(codes, default=int(Exit.DONE))


def answer_word(error: EbbtideError) -> str:
    """The word that stands for an error's family in JSON answers."""
    if isinstance(error, NotFound):
        return "unknown"
    if isinstance(error, Conflict):
        return "refused"
    if isinstance(error, AnswerLost):
        return "stored"
    if isinstance(error, CommitUnknown):
        return "not known"
    if isinstance(error, StoreUnavailable):
        return "not stored"
    return "wrong"


def emit_error(problem: str, code: int) -> None:
    """The JSON object of a command that answers nothing else, on a line of its own like any other answer."""
    emit_line({"error": problem, "exit_code": int(code)})


class Verbs(click.Group):
    """The command group that turns errors into one line and an exit code.

    A verb's function returns its exit code, or None for 0. An exception that is neither an
    EbbtideError nor click's is a fault of this program and keeps its traceback.
    """

    sections: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        told = Invocation()
        extra |= {"standalone_mode": False, "obj": told}
        _make_streams_usable()
        try:
            code = self._answered(told, words, *more, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            code = _drop_output(Exit.BROKEN_PIPE)
        except click.Abort:
            code = Exit.INTERRUPTED
        sys.exit(int(code or Exit.DONE))

    def _answered(self, told: Invocation, words: list[str], *more: Any, **extra: Any) -> Any:
        """Run the verb; what the user can mend becomes a line, with --json also an object, and a code."""
        try:
            return super().main(words, *more, **extra)
        except NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            problem, code = "a verb is missing", int(Exit.USAGE)
        except click.ClickException as error:
            problem, code = _one_line_of(error), error.exit_code
            say(problem)
        except EbbtideError as error:
            problem, code = str(error), error.exit_code
            say(problem)
        # A call that is wrong may not have been read to its --json.
        if told.json or (code == Exit.USAGE and "--json" in words):
            emit_error(problem, code)
        return code

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Answered here: one level up click would end the program with code 1.
            return _drop_output(Exit.BROKEN_PIPE)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) or error.filename:
                raise
            # A write to stdout failed, on a full disk for instance: what has no name is no file of ours.
            say(f"the output cannot be written: {error.strerror or error}")
            return _drop_output(Exit.ENDED_BADLY)

    def list_commands(self, ctx: click.Context) -> list[str]:
        listed = [name for _, names in self.sections for name in names]
        return listed + sorted(set(self.commands) - set(listed))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for title, names in self.sections:
            with formatter.section(title):
                rows = [(name.ljust(width), self.commands[name].get_short_help_str(160)) for name in names]
                formatter.write_dl(rows)


def _one_line_of(error: click.ClickException) -> str:
    """click's message; for a wrong call also where its help is."""
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    if not isinstance(error, click.UsageError) or context is None:
        return message
    return f"{message} (see `{context.command_path} --help`)"


def _make_streams_usable() -> None:
    """Characters that the locale cannot show are printed escaped, bytes that it cannot read are read so.

    A stream that was closed by whoever started this program leads nowhere from here on.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # open as long as the process
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _drop_output(code: Exit) -> Exit:
    """Nothing can be written to stdout any more: what is still buffered must not raise again at the end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # stdout has no descriptor, so there is no buffer of the interpreter's to be flushed
    return code


__all__ = ["EXIT_CODES_HELP", "PROGRAM", "Exit", "Verbs", "answer_word", "emit_error", "worst"]
