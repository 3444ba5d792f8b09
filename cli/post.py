"""`ebbtide post`: put a job on the board."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import (
    FlowName,
    Invocation,
    JobId,
    Seconds,
    Whole,
    pairs,
    pass_invocation,
    shared_options,
)
from ebbtide.cli.output import emit, say
from ebbtide.cli.policies import given_policies, policy_options
from ebbtide.cli.waiting import awaited, conclusion, see_through

# These options are passed on as they are.
_AS_GIVEN = ("priority", "delay_seconds", "exclusive", "on_busy", "key", "parent")


@click.command()
@click.argument("flow", type=FlowName())
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; repeatable.")
@click.option(
    "--params-file", metavar="FILE", type=click.File("rb"), help="A JSON object of parameters; -p wins."
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="To find it by; repeatable.")
@click.option(
    "--priority",
    type=Whole(),
    metavar="N",
    default=0,
    show_default=True,
    help="Higher numbers are claimed first.",
)
@click.option(
    "--delay", "delay_seconds", type=Seconds(), default=0.0, metavar="SECONDS", help="Claim it no sooner."
)
@click.option("--at", metavar="TIME", help="Claim it no sooner, such as 2030-01-31T03:00.")
@click.option("--exclusive", metavar="KEY", help="Run no two jobs with this key at once.")
@click.option("--on-busy", type=click.Choice(("wait", "refuse")), help="While its key is taken.")
@click.option("--key", metavar="KEY", help="Post it once, however often this is repeated.")
@click.option("--parent", type=JobId(), metavar="JOB", help="Cancel it with that one, and before its undo.")
@policy_options
@click.option("--wait", is_flag=True, help="Stay until it ends; 1 unless it completed.")
@shared_options
@pass_invocation
def post(
    invocation: Invocation,
    /,
    flow: str,
    params: tuple[str, ...],
    params_file: Any,
    labels: tuple[str, ...],
    wait: bool,
    **wishes: Any,
) -> Exit:
    """Put a job on the board and print its id.

    FLOW is a name that `ebbtide flows` lists, or name@version. Values of -p are read as JSON where the flow
    wants no text: -p count=3 -p exclude='["*.pyc"]'. A plain text counts as a list's only element:
    -p exclude='*.pyc'.
    """
    if not 0 <= wishes["delay_seconds"] < float("inf"):
        raise click.UsageError("--delay wants a number of seconds, 0 or more")
    registry = invocation.registry()
    definition = registry.get(flow)
    # What the file holds is JSON as it stands; only the texts of -p are to be read as what the flow wants.
    values = definition.parse(pairs(params, "-p"), _values_of_file(params_file))
    with invocation.poster(registry, create=True) as poster:
        job = poster.post(
            definition.name,
            values,
            version=definition.version,
            labels=pairs(labels, "--label"),
            at=_moment(wishes["at"]),
            **{name: wishes[name] for name in _AS_GIVEN},
            **given_policies(definition, invocation.own_settings(), wishes),
        )
        if not invocation.json:
            # The id comes first: whoever interrupts the wait has it.
            click.echo(job.id)
            sys.stdout.flush()
        elif not wait:
            emit(job.as_dict())
        if not wait:
            return Exit.DONE
        last = see_through(poster, job.id, stream=sys.stderr, quiet=invocation.json)
    if invocation.json:
        emit(last.job.as_dict())
    say(conclusion(last))
    return awaited(last)


def _moment(text: str | None) -> datetime | None:
    """A moment as it is written; without a zone it is of this machine's."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"--at wants a moment such as 2030-01-31T03:00: {error}") from error


def _values_of_file(file: Any) -> dict[str, Any]:
    """The parameters that the file holds."""
    from ebbtide.tasks.payload import PayloadError, each_key_once

    if file is None:
        return {}
    try:
        values = json.loads(file.read(), object_pairs_hook=each_key_once)
    except PayloadError as error:
        raise click.UsageError(f"--params-file {file.name}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--params-file {file.name}: not JSON: {error}") from error
    except OSError as error:
        raise click.UsageError(f"--params-file {file.name} cannot be read: {error.strerror}") from error
    if not isinstance(values, dict):
        raise click.UsageError(f"--params-file {file.name}: a JSON object is wanted")
    return values
