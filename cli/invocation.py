"""The options that all verbs share, before or after the verb, and what they lead to: settings and store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from ebbtide.errors import EbbtideError
from ebbtide.wording import is_plain_number

if TYPE_CHECKING:
    from ebbtide.api.client import RemotePoster
    from ebbtide.config import Settings
    from ebbtide.flows import Registry
    from ebbtide.jobs import Poster

    Word = click.ParamType[str]
else:
    Word = click.ParamType  # generic for type checkers only in older versions of click

F = TypeVar("F", bound=Callable[..., Any] | click.Command)


@dataclass
class Invocation:
    """What one call of the command was told by the shared options."""

    json: bool = False
    database: str | None = None
    config: str | None = None
    flow_modules: tuple[str, ...] = ()
    server: str | None = None
    token_file: str | None = None

    def settings(self, **overrides: Any) -> Settings:
        if self.server is not None:
            raise click.UsageError("this needs the store itself: leave --server out")
        return self.own_settings(**overrides)

    def own_settings(self, **overrides: Any) -> Settings:
        """The options of this machine, also where a server is asked, which has its own."""
        from ebbtide.config import load_settings

        return load_settings(
            self.config, database=self.database, flow_modules=self.flow_modules or None, **overrides
        )

    def registry(self) -> Registry:
        """The flows that can be posted: those of this process, or of the server's conductors."""
        if self.server is not None:
            with self._remote() as remote:
                return cast("Registry", remote.registry)
        from ebbtide.flows import load_flows

        return load_flows(self.settings().flow_modules)

    @contextmanager
    def _remote(self) -> Iterator[RemotePoster]:
        if self.token_file is None:
            raise click.UsageError("--server wants a --token-file, which holds a token for it")
        if self.database is not None:
            raise click.UsageError("--server and --database exclude each other")
        from importlib.util import find_spec

        if find_spec("httpx") is None:
            raise click.UsageError("--server needs httpx, of the extra: pip install 'ebbtide[api]'")
        from ebbtide.api.client.connection import read_token
        from ebbtide.api.client.poster import RemotePoster

        silence_libraries()
        with RemotePoster(str(self.server), read_token(self.token_file)) as remote:
            yield remote

    @contextmanager
    def poster(self, registry: Registry | None = None, *, create: bool = False) -> Iterator[Poster]:
        """The store, open, or the server that answers for it.

        With `create` it may be one that is not there yet: for verbs that put something into it.
        """
        if self.server is not None:
            with self._remote() as remote:
                # It has the names of a poster that verbs about jobs use; a test compares them.
                yield cast("Poster", remote)
            return
        from ebbtide.jobs import Poster

        silence_libraries()
        settings = self.settings()
        with Poster(
            settings.database,
            flow_modules=settings.flow_modules,
            registry=registry,
            max_parameter_bytes=settings.max_parameter_bytes,
            settings=settings,
            create=create,
        ) as poster:
            yield poster

    @contextmanager
    def own_poster(self, *, create: bool = False) -> Iterator[Poster]:
        """As `poster`, of a store alone."""
        self.settings()
        with self.poster(create=create) as poster:
            yield poster


def silence_libraries() -> None:
    """Keep what libraries log off stderr, which is for words to the user. Python prints it otherwise.

    SQLAlchemy logs a traceback when Ctrl-C hits it while it gives a connection back, for instance.
    """
    import logging

    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def shared_options(command: F) -> F:
    """Give a verb (or the group) the options of all verbs."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


def _told(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    """Note what an option says. What stands after the verb is read later, and so wins."""
    invocation = ctx.ensure_object(Invocation)
    texts = value if option.multiple else [value]
    if any(isinstance(text, str) and not text.strip(" ,") for text in texts):
        # An empty variable of a script, most likely: the default would be another store than was meant.
        raise click.UsageError(f"{option.opts[0]} is empty", ctx)
    if not value:
        return
    if option.name == "flow_modules":
        invocation.flow_modules += tuple(name for text in value for name in text.split(",") if name)
    else:
        setattr(invocation, str(option.name), value)


_SHARED = (
    click.option(
        "--json", is_flag=True, expose_value=False, callback=_told, help="Print JSON on stdout, for programs."
    ),
    click.option(
        "--database",
        metavar="URL",
        expose_value=False,
        callback=_told,
        help="Where the jobs are stored, such as sqlite:///jobs.db.  [env: EBBTIDE_DATABASE]",
    ),
    click.option(
        "--server",
        metavar="URL",
        expose_value=False,
        callback=_told,
        help="Ask the API that `ebbtide api` serves there, instead of a store.",
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        expose_value=False,
        callback=_told,
        help="The file that holds a token for the server.",
    ),
    click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=_told,
        help="Configuration file.  [env: EBBTIDE_CONFIG]",
    ),
    click.option(
        "--flow-module",
        "flow_modules",
        metavar="MODULE",
        multiple=True,
        expose_value=False,
        callback=_told,
        help="Module to import for its flows; repeatable.  [env: EBBTIDE_FLOW_MODULES]",
    ),
)


class JobId(Word):
    """A job's id, or the beginning of one. The shell completes it from the newest jobs of the store."""

    name = "job"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        invocation = ctx.find_object(Invocation) or Invocation()
        try:
            with invocation.poster() as poster:
                jobs = poster.list(state=None, flow=None, labels=None, limit=200)
        except EbbtideError:
            return []  # a completion that fails says nothing: the user is in the middle of a line
        return [
            CompletionItem(job.id, help=f"{job.flow} {job.phase}")
            for job in jobs
            if job.id.startswith(incomplete.lower())
        ]


class FlowName(Word):
    """A flow's name, with @version if it is to be an older one. Completed from what is installed."""

    name = "flow"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from importlib.metadata import entry_points

        names = {point.name for point in entry_points(group="ebbtide.flows")}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


class Whole(click.IntRange):
    """A whole number, in plain digits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_plain(self, value, param, ctx), param, ctx)


class Seconds(click.types.FloatParamType):
    """A number of seconds, in plain digits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_plain(self, value, param, ctx), param, ctx)


def _plain(kind: Any, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
    if isinstance(value, str) and not is_plain_number(value):
        kind.fail(f"'{value}' is not a number in plain digits.", param, ctx)
    return value


def pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """`name=value` texts as a dict. A name may be given once."""
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            # Not shown: a parameter that lost its name may be a secret.
            raise click.UsageError(f"{option} wants name=value: one has no name, or no =")
        if name in found:
            raise click.UsageError(f"{option} {name} is given twice")
        found[name] = value
    return found
