"""`ebbtide logs`: what the tasks of a job logged and printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, JobId, Whole, pass_invocation, shared_options
from ebbtide.cli.output import clock, emit, emit_line, plain, say
from ebbtide.cli.snapshot import RESTING, TICK_SECONDS
from ebbtide.interrupts import Raised

if TYPE_CHECKING:
    from ebbtide.jobs import LogLine, Poster

PAGE: Final = 1000


@click.command()
@click.argument("job", type=JobId())
@click.option("-f", "--follow", is_flag=True, help="Go on with lines as they come, until the job ends.")
@click.option("--attempt", type=Whole(1), metavar="N", help="Only the lines of this attempt.")
@shared_options
@pass_invocation
def logs(invocation: Invocation, job: str, follow: bool, attempt: int | None) -> Exit:
    """Print what the tasks of a job logged and printed.

    As many of the newest lines as are kept; see the option log_lines."""
    with invocation.poster() as poster:
        job_id = poster.show(job).id
        lines = _as_they_come(poster, job_id) if follow else _kept(poster, job_id, 0)
        wanted = (line for line in lines if attempt is None or line.attempt == attempt)
        if invocation.json and not follow:
            emit([line.as_dict() for line in wanted])
            return Exit.DONE
        try:
            with Raised():
                printed = _print(wanted, as_json=invocation.json)
        except KeyboardInterrupt:
            say(f"job {job_id[:8]} goes on; `ebbtide watch {job_id[:8]}` shows it")
            return Exit.INTERRUPTED
    if not printed and not invocation.json:
        say(f"job {job_id[:8]} has no lines; `ebbtide show {job_id[:8]}` tells what it did")
    return Exit.DONE


def _print(lines: Iterator[LogLine], *, as_json: bool) -> int:
    """How many they were."""
    attempt, count = None, 0
    for line in lines:
        count += 1
        if as_json:
            emit_line(line.as_dict())
            continue
        if attempt is not None and line.attempt != attempt:
            click.echo(f"-- attempt {line.attempt} --")
        attempt = line.attempt
        level = "" if line.level in ("info", "stdout") else f"{plain(line.level)}: "
        click.echo(f"{clock(line.at)}  {plain(line.task or '-')}  {level}{plain(line.text, keep=chr(9))}")
    return count


def _kept(poster: Poster, job_id: str, after: int) -> Iterator[LogLine]:
    while page := poster.logs(job_id, after=after, limit=PAGE):
        yield from page
        after = page[-1].number


def _as_they_come(poster: Poster, job_id: str) -> Iterator[LogLine]:
    after = 0
    while True:
        # Before its lines: a job that rests by now writes none after the ones read next.
        resting = str(poster.show(job_id).state) in RESTING
        for line in _kept(poster, job_id, after):
            yield line
            after = line.number
        if resting:
            return
        try:
            poster.wait(job_id, timeout=TICK_SECONDS)
        except TimeoutError:
            continue
