"""The options that all verbs share, before or after the verb, and what they lead to: settings and store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ebbtide.errors import EbbtideError
from ebbtide.wording import is_plain_number

if TYPE_CHECKING:
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

    def settings(self, **overrides: Any) -> Settings:
        from ebbtide.config import load_settings

        return load_settings(
            self.config, database=self.database, flow_modules=self.flow_modules or None, **overrides
        )

    def registry(self) -> Registry:
        from ebbtide.flows import load_flows

        return load_flows(self.settings().flow_modules)

    @contextmanager
    def poster(self, registry: Registry | None = None) -> Iterator[Poster]:
        """The store, open. An empty one is created."""
        from ebbtide.jobs import Poster

        silence_libraries()
        settings = self.settings()
        with Poster(
            settings.database,
            flow_modules=settings.flow_modules,
            registry=registry,
            max_parameter_bytes=settings.max_parameter_bytes,
            settings=settings,
        ) as poster:
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
    """Give a verb (or the group) --json, --database, --config and --flow-module."""
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
