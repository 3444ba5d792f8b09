"""The options of `ebbtide post` that decide what becomes of a job that fails, or takes too long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ebbtide.cli.invocation import Seconds, Whole

if TYPE_CHECKING:
    from ebbtide.config import Settings
    from ebbtide.flows import FlowDefinition

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--retries", type=Whole(0, 999), metavar="N", help="Try it again so often if it fails."),
    click.option(
        "--retry-interval", type=Seconds(), metavar="SECONDS", help="Wait so long before the first."
    ),
    click.option(
        "--retry-on", "errors", multiple=True, metavar="ERROR", help="Only after such an error; repeatable."
    ),
    click.option(
        "--on-failure",
        type=click.Choice(("undo", "hold")),
        help="Undo what was done, or hold it for a person to go on from there.",
    ),
    click.option("--timeout", type=Seconds(), metavar="SECONDS", help="Undo it if an attempt takes longer."),
    click.option(
        "--no-progress",
        type=Seconds(),
        metavar="SECONDS",
        help="Undo it if nothing is heard of it for so long.",
    ),
)


def policy_options(command: F) -> F:
    """Give a verb the options; each that is not given is as the flow, or the configuration, says."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given_policies(
    definition: FlowDefinition, settings: Settings, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of `Poster.post` for what was given, over what would hold without it."""
    present = definition.policies(settings)
    retry: dict[str, Any] = {}
    if given["retries"] is not None:
        retry["attempts"] = given["retries"] + 1
    if given["retry_interval"] is not None:
        retry["interval_seconds"] = given["retry_interval"]
        retry["cap_seconds"] = max(given["retry_interval"], present.retry.cap_seconds)
    if given["errors"]:
        retry["errors"] = tuple(given["errors"])
    limits = {"job_seconds": given["timeout"], "no_progress_seconds": given["no_progress"]}
    return {
        "retry": replace(present.retry, **retry),
        "limits": replace(
            present.limits, **{name: each for name, each in limits.items() if each is not None}
        ),
        "on_failure": given["on_failure"],
    }
