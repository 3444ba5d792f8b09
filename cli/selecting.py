"""Verbs for many jobs: which are meant, what would become of them, and whether that is really wanted."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ebbtide.cli.exits import Exit, worst
from ebbtide.cli.invocation import FlowName, Invocation, pairs
from ebbtide.cli.listing import STATE_WORDS
from ebbtide.cli.output import emit_line, plain, say
from ebbtide.wording import counted

if TYPE_CHECKING:
    from ebbtide.jobs import Answer, Poster, Selection

F = TypeVar("F", bound=Callable[..., Any] | click.Command)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_CODES = {
    "unknown": Exit.UNKNOWN,
    "too late": Exit.NOT_ALLOWED,
    "refused": Exit.NOT_ALLOWED,
    "changed": Exit.NOT_ALLOWED,
    "not stored": Exit.STORE,
    "not known": Exit.STORE,
}
#: The names of the options below, as a verb's function is given them.
FILTERS = ("state", "flow", "labels", "older_than", "everything")


class Age(click.types.FloatParamType):
    """A number with a unit: 30s, 15m, 2h, 7d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, float):
            return value
        number, unit = value[:-1], value[-1:]
        if unit not in _UNITS or not (number.isascii() and number.isdigit()):
            self.fail(f"'{value}' is no age: a whole number with s, m, h or d, such as 2h.", param, ctx)
        return float(number) * _UNITS[unit]


_OPTIONS = (
    click.option("--state", type=click.Choice(STATE_WORDS, case_sensitive=False), help="All jobs in it."),
    click.option("--flow", type=FlowName(), metavar="NAME", help="All jobs of this flow."),
    click.option(
        "--label", "labels", multiple=True, metavar="KEY=VALUE", help="All jobs with it; repeatable."
    ),
    click.option("--older-than", type=Age(), metavar="AGE", help="All jobs posted so long ago, such as 2h."),
    click.option("--all", "everything", is_flag=True, help="All jobs."),
    click.option("--dry-run", is_flag=True, help="Change nothing; tell what each job would be answered."),
    click.option("--yes", is_flag=True, help="Do not ask whether that is wanted."),
)


def selecting(command: F) -> F:
    """Give a verb the options by which it is about many jobs."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def selection_of(options: dict[str, Any], job_ids: Sequence[str]) -> Selection | None:
    """The jobs that the options mean; None: ids alone, which are asked each by itself.

    Raises:
        click.UsageError: ids and filters are mixed, or there are neither.
    """
    filtered = any(options[name] for name in FILTERS)
    if job_ids and filtered:
        raise click.UsageError("name jobs, or say what they have in common; not both")
    if not filtered:
        if not job_ids:
            raise click.UsageError(
                "which jobs? name them, or use --state, --flow, --label, --older-than or --all"
            )
        return None
    from ebbtide.jobs import Selection

    return Selection(
        state=options["state"],
        flow=options["flow"],
        labels=pairs(options["labels"], "--label"),
        older_than_seconds=options["older_than"],
        everything=options["everything"],
    )


def of_ids(poster: Poster, job_ids: Iterable[str]) -> Selection:
    """The jobs that are named, by their whole ids."""
    from ebbtide.jobs import Selection

    return Selection(ids=[poster.show(job_id).id for job_id in job_ids])


def ask_many(
    invocation: Invocation,
    verb: str,
    options: dict[str, Any],
    ask: Callable[[bool], Sequence[Answer]],
) -> int:
    """Ask for all jobs of a selection, once a person at a terminal has agreed; print what each is answered.

    Args:
        verb: as the question says it.
        ask: does it; with True it only tells what would be answered.
    """
    if options["dry_run"]:
        answers = ask(True)
        _print(answers, invocation.json)
        say(f"nothing is changed; {_counted(answers)}")
        return Exit.DONE
    if not options["yes"] and sys.stdin.isatty():
        foreseen = [answer for answer in ask(True) if answer.done]
        if not foreseen:
            say("no job fits")
            return Exit.DONE
        click.confirm(f"{verb} {counted(len(foreseen), 'job')}?", abort=True, err=True)
    answers = ask(False)
    _print(answers, invocation.json)
    say(_counted(answers) if answers else "no job fits")
    return worst(_CODES.get(answer.answer, Exit.DONE) for answer in answers)


def _print(answers: Sequence[Answer], as_json: bool) -> None:
    for answer in answers:
        if as_json:
            emit_line(answer.as_dict())
        else:
            click.echo(f"{plain(answer.job_id)}  {answer.answer}")


def _counted(answers: Sequence[Answer]) -> str:
    counts = Counter(answer.answer for answer in answers)
    return ", ".join(f"{count} {word}" for word, count in counts.most_common()) or "no job fits"
