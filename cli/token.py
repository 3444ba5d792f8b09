"""`ebbtide token`: who may use the HTTP API."""

from __future__ import annotations

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, Seconds, pass_invocation, shared_options
from ebbtide.cli.output import columns, emit, say, show

_DAY = 86400.0


@click.group()
@shared_options
def token() -> None:
    """Make, list and take back the tokens of the HTTP API."""


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(("viewer", "operator", "admin")),
    required=True,
    help="viewer: look; operator: also post, cancel, retry; admin: everybody's jobs.",
)
@click.option("--jobs-of", metavar="NAME", help="Whose jobs it is about; its own unless told.")
@click.option("--all-jobs", is_flag=True, help="It is about everybody's jobs.")
@click.option("--days", type=Seconds(), metavar="N", help="How long it lasts; for good unless told.")
@shared_options
@pass_invocation
def create(
    invocation: Invocation, name: str, role: str, jobs_of: str | None, all_jobs: bool, days: float | None
) -> Exit:
    """Make a token for NAME and print it, once: it is not stored, only what it is known by again."""
    from ebbtide.jobs.credentials import Role

    if all_jobs and jobs_of is not None:
        raise click.UsageError("--jobs-of and --all-jobs exclude each other")
    everybody = all_jobs or role == Role.ADMIN
    if role == Role.ADMIN and jobs_of is not None:
        raise click.UsageError("an admin sees everybody's jobs: leave --jobs-of out")
    with invocation.own_poster(create=True) as poster:
        secret, made = poster.credentials.create(
            name,
            Role(role),
            jobs_of=None if everybody else jobs_of or name,
            seconds=None if days is None else days * _DAY,
        )
    if invocation.json:
        emit({**made.as_dict(), "token": secret})
    else:
        say(f"token {made.id[:8]} of {made.name}, {made.role}; it is shown this once")
        click.echo(secret)
    return Exit.DONE


@token.command("list")
@shared_options
@pass_invocation
def listed(invocation: Invocation) -> Exit:
    """List the tokens; never their secrets."""
    with invocation.own_poster() as poster:
        tokens = poster.credentials.tokens()
    if invocation.json:
        emit([each.as_dict() for each in tokens])
        return Exit.DONE
    if not tokens:
        say("nobody has a token yet; `ebbtide token create NAME --role ...` makes one")
        return Exit.DONE
    rows = []
    for each in tokens:
        told = each.as_dict()
        rows.append(
            [
                each.id[:8],
                each.name,
                each.role,
                each.jobs_of or "(everybody)",
                told["expires_at"] or "-",
                told["used_at"] or "-",
            ]
        )
    show(columns(("token", "name", "role", "jobs of", "expires", "last used"), rows))
    return Exit.DONE


@token.command()
@click.argument("token_id", metavar="TOKEN")
@shared_options
@pass_invocation
def revoke(invocation: Invocation, token_id: str) -> Exit:
    """Take a token back, by its id or the beginning of it. What was opened with it ends as well."""
    with invocation.own_poster() as poster:
        found = [each.id for each in poster.credentials.tokens() if each.id.startswith(token_id.lower())]
        if len(found) > 1:
            raise click.UsageError(f"more than one token begins with {token_id[:40]!r}; write more of its id")
        poster.credentials.revoke(found[0] if found else token_id)
    say(f"token {(found or [token_id])[0][:8]} is revoked")
    return Exit.DONE
