"""`ebbtide api`: the HTTP API of a store."""

from __future__ import annotations

import click

from ebbtide.cli.conductor import log_to_stderr
from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, Whole, pass_invocation, shared_options
from ebbtide.cli.output import emit_line, say

PORT = 8765


@click.command()
@click.option("--host", default="127.0.0.1", metavar="NAME", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    type=Whole(0, 65535),
    metavar="N",
    default=PORT,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option("--inherited", type=Whole(3), hidden=True, help="A socket that listens already.")
@click.option("--https", is_flag=True, help="Browsers come by a proxy that speaks https, and by it alone.")
@click.option(
    "--log-level", type=click.Choice(("debug", "info", "warning", "error")), help="The least that is logged."
)
@click.option("--log-json", is_flag=True, help="Log a JSON object a line.")
@shared_options
@pass_invocation
def api(
    invocation: Invocation,
    host: str,
    port: int,
    inherited: int | None,
    https: bool,
    log_level: str | None,
    log_json: bool,
) -> Exit:
    """Serve the HTTP API and the live events until told to stop.

    Everybody needs a token, which `ebbtide token create` makes; before that it listens on this machine alone.
    Flows are those that conductors have published: no code of theirs is needed here. Needs the extra `api`.
    """
    import socket

    require_extra()
    from ebbtide.api.app import create_app
    from ebbtide.api.limits import Limits
    from ebbtide.api.server import bound, hosts_of, require_tokens, serve

    settings = invocation.settings(log_level=log_level)
    log_to_stderr(settings.log_level, as_json=log_json)
    place = bound(host, port) if inherited is None else socket.socket(fileno=inherited)
    with place as listener, invocation.poster(create=True) as poster:
        require_tokens(listener, poster)
        url = url_of(listener.getsockname())

        def tell() -> None:
            if invocation.json:
                emit_line({"api": url, "ready": True})
            else:
                say(f"api ready: {url}")

        app = create_app(
            poster,
            limits=Limits.of(settings),
            https=https,
            hosts=hosts_of(listener, settings.allowed_hosts),
        )
        serve(app, listener, tell)
    return Exit.DONE


def url_of(address: tuple[str, int]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"


def require_extra() -> None:
    """A wrong call where what the API needs is not installed."""
    from importlib.util import find_spec

    absent = [name for name in ("fastapi", "uvicorn", "sse_starlette", "jinja2") if find_spec(name) is None]
    if absent:
        raise click.UsageError(f"this needs {absent[0]}, of the extra: pip install 'ebbtide[api]'")
