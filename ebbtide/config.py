"""What a conductor and the command line can be told from outside: one frozen object, built once.

Later places win: the defaults, the file (INI, section [DEFAULT]), the environment (EBBTIDE_<OPTION>), the
call. Values are taken as they stand: unlike in other programs on oslo.config, a `$` refers to nothing,
since it is at home in passwords. `python -m ebbtide.config` prints the sample file.
"""

import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from oslo_config import cfg, types

from ebbtide.errors import ConfigError
from ebbtide.wording import hide_password, is_plain_number, one_line

PREFIX = "EBBTIDE_"
FILE_VARIABLE = "EBBTIDE_CONFIG"
# Test suites may pass switches of their own to the processes they start.
TEST_PREFIX = "EBBTIDE_TEST_"
_FENCE_SHARE = 0.9


@dataclass(frozen=True, repr=False)
class Settings:
    """All options, typed and checked. `repr` and `str` show the database URL without its password."""

    database: str
    flow_modules: tuple[str, ...] = ()
    runners: int = 2
    isolation: str = "process"
    lease_seconds: float = 30.0
    renew_seconds: float = 10.0
    self_fence_seconds: float = 20.0
    grace_seconds: float = 10.0
    kill_after_seconds: float = 5.0
    memory_limit_mib: int = 0
    sweep_seconds: float = 1.0
    poll_seconds: float = 0.015
    task_threads: int = 4
    log_lines: int = 10000
    log_level: str = "info"
    max_parameter_bytes: int = 1048576
    max_result_bytes: int = 1048576

    def __post_init__(self) -> None:
        for option in OPTIONS:
            _converted(option, getattr(self, option.name), "settings")
        # A conductor that cannot renew must have stopped its runners before the lease is anybody else's.
        for shorter, longer in pairwise(("renew_seconds", "self_fence_seconds", "lease_seconds")):
            if getattr(self, shorter) >= getattr(self, longer):
                raise ConfigError(
                    f"{shorter} ({getattr(self, shorter):g}) must be below {longer} "
                    f"({getattr(self, longer):g}): renew_seconds < self_fence_seconds < lease_seconds"
                )
        # To end the runners' trees takes its time as well.
        if self.self_fence_seconds > _FENCE_SHARE * self.lease_seconds:
            raise ConfigError(
                f"self_fence_seconds ({self.self_fence_seconds:g}) leaves too little of lease_seconds "
                f"({self.lease_seconds:g}) to end the runners in: at most {_FENCE_SHARE:.0%} of it"
            )

    def __repr__(self) -> str:
        shown = ", ".join(f"{field.name}={self._shown(field.name)!r}" for field in fields(self))
        return f"Settings({shown})"

    def _shown(self, name: str) -> Any:
        value = getattr(self, name)
        return hide_password(value) if name == "database" else value


class _ModuleName(types.ConfigType):
    """An absolute dotted name that could be imported; whether it can be is found out later."""

    def __init__(self) -> None:
        super().__init__(type_name="module name")

    def __call__(self, value: object) -> str:
        name = str(value)
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(name)
        return name

    def _formatter(self, value: object) -> str:
        return str(value)


class _Database(types.ConfigType):
    """Any text. What it means is for `ebbtide.jobs` to say, the same for each way in."""

    def __init__(self) -> None:
        super().__init__(type_name="database")

    def __call__(self, value: object) -> str:
        if not str(value).strip():
            raise ValueError("empty")
        return str(value)

    def _formatter(self, value: object) -> str:
        return str(value)


def _bytes(name: str, default: int, sentence: str) -> cfg.Opt:
    return cfg.IntOpt(name, default=default, min=1024, max=64 * 1024 * 1024, help=sentence)


def _seconds(name: str, default: float, least: float, most: float, sentence: str) -> cfg.Opt:
    return cfg.FloatOpt(name, default=default, min=least, max=most, help=sentence)


OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.Opt(
        "database",
        type=_Database(),
        secret=True,
        sample_default="sqlite:////var/lib/ebbtide/ebbtide.db",
        help="Where the jobs are stored: the URL of a database, or the path of an SQLite file. Without it: "
        "ebbtide.db in the user's data directory (XDG_DATA_HOME, else ~/.local/share/ebbtide). Set it "
        "when several users or services share one store; a password in it is never printed.",
    ),
    cfg.ListOpt(
        "flow_modules",
        default=list(Settings.flow_modules),
        item_type=_ModuleName(),
        help="Modules to import for the flows they register, separated by commas. Set it for flows "
        "that no installed package announces in the entry-point group ebbtide.flows.",
    ),
    cfg.IntOpt(
        "runners",
        default=Settings.runners,
        min=1,
        max=512,
        help="How many jobs a conductor runs at once, each in a process of its own. Raise it when jobs "
        "wait while cores are idle; lower it when jobs need much memory.",
    ),
    cfg.StrOpt(
        "isolation",
        default=Settings.isolation,
        choices=("process", "thread"),
        help="Where jobs run. Change it to thread only to embed a conductor in a program of your own: "
        "a task that never looks at its cancel event cannot be ended there.",
    ),
    _seconds(
        "lease_seconds",
        Settings.lease_seconds,
        0.1,
        86400,
        "How long a conductor that fell silent keeps its jobs. Lower it to have the jobs of a "
        "dead machine taken over sooner; raise it when the database or the machine stalls for "
        "longer than this.",
    ),
    _seconds(
        "renew_seconds",
        Settings.renew_seconds,
        0.01,
        86400,
        "How often a conductor renews its lease; below self_fence_seconds. Change it along with "
        "lease_seconds, of which it should be about a third.",
    ),
    _seconds(
        "self_fence_seconds",
        Settings.self_fence_seconds,
        0.05,
        86400,
        "After how long without a renewal a conductor stops its own runners; below lease_seconds, "
        "so that they are dead before another one takes over. Change it along with lease_seconds, "
        "of which it should be two thirds.",
    ),
    _seconds(
        "grace_seconds",
        Settings.grace_seconds,
        0,
        86400,
        "How long the tasks of a cancelled job may take to come to a checkpoint. After that the job is "
        "overdue and its runner is told to end. Raise it for tasks whose steps take longer; a task class "
        "may have a grace_seconds of its own.",
    ),
    _seconds(
        "kill_after_seconds",
        Settings.kill_after_seconds,
        0,
        86400,
        "How long what an overdue job has started may take to end after SIGTERM; then its runner is killed "
        "with everything below it, and another one undoes the job. Raise it for programs that need "
        "longer to leave their work in order.",
    ),
    cfg.IntOpt(
        "memory_limit_mib",
        default=Settings.memory_limit_mib,
        min=0,
        max=1 << 30,
        help="How much memory a runner may use, in MiB, and each program that a task starts for itself: a "
        "task that asks for more fails with MemoryError. 0 sets no limit. Set it where one job may not "
        "take the memory of its neighbours.",
    ),
    _seconds(
        "sweep_seconds",
        Settings.sweep_seconds,
        0.01,
        3600,
        "How often a conductor reads the job rows without having been told to, which finds what a "
        "lost signal did not say. Raise it to spare a store that many conductors share; a lost "
        "signal then costs that much more.",
    ),
    _seconds(
        "poll_seconds",
        Settings.poll_seconds,
        0.001,
        60,
        "How often an SQLite store that is being written to is asked whether it has changed, which takes "
        "microseconds. Raise it to wake a battery-powered machine less often; cancels and posts are then "
        "noticed that much later.",
    ),
    cfg.IntOpt(
        "task_threads",
        default=Settings.task_threads,
        min=1,
        max=512,
        help="How many tasks of one job may run side by side. Raise it for flows with wide parallel "
        "parts that mostly wait; set it to 1 when tasks of one job must never overlap.",
    ),
    cfg.IntOpt(
        "log_lines",
        default=Settings.log_lines,
        min=0,
        max=10_000_000,
        help="How many captured lines of log and output are kept for each job, the newest ones. Raise "
        "it for tasks that print much which is still wanted; 0 keeps none.",
    ),
    cfg.StrOpt(
        "log_level",
        default=Settings.log_level,
        choices=("debug", "info", "warning", "error"),
        help="The least severe records that are logged. Lower it to debug while looking for a fault.",
    ),
    _bytes(
        "max_parameter_bytes",
        Settings.max_parameter_bytes,
        "How many bytes the parameters of a job may take, as JSON. Raise it when callers cannot pass a "
        "file's path instead; every reader of a job reads its parameters as well.",
    ),
    _bytes(
        "max_result_bytes",
        Settings.max_result_bytes,
        "How many bytes of JSON a task may return, save at a checkpoint, or the job have as its result. "
        "Raise it when tasks cannot return a file's path instead; each commit writes them.",
    ),
)

_BY_NAME = {option.name: option for option in OPTIONS}


def load_settings(
    config_file: str | None = None, environ: Mapping[str, str] = os.environ, **overrides: Any
) -> Settings:
    """Read the options from file, environment and call.

    The file is `config_file`, else the one that EBBTIDE_CONFIG names, else none. Overrides of None and
    environment variables without text count as not given. Nothing is created, not even the folder of the
    default database. Raises ConfigError for whatever is unknown, with the nearest name, or unusable.
    """
    values: dict[str, Any] = {}
    for name, value, place in _given(config_file or environ.get(FILE_VARIABLE) or None, environ, overrides):
        values[name] = _converted(_BY_NAME[name], value, place)
    if "database" not in values:
        values["database"] = _default_database(environ)
    values["flow_modules"] = tuple(values.get("flow_modules", ()))
    return Settings(**values)


def variable(option: str) -> str:
    """The environment variable of an option."""
    return PREFIX + option.upper()


def sample() -> str:
    """The text of etc/ebbtide.conf.sample: every option, commented out, with its default."""
    paragraphs = [
        "# Sample configuration of Ebbtide, generated by `python -m ebbtide.config`.\n"
        f"# Read from the file that --config or {FILE_VARIABLE} names; the environment variable of an\n"
        "# option wins over the file, and an argument of a command over both.\n",
        "[DEFAULT]\n",
    ]
    for option in OPTIONS:
        text = textwrap.fill(option.help or "", 96, initial_indent="# ", subsequent_indent="# ")
        facts = f"# ({_expected(option)}; environment: {variable(option.name)})"
        default = option.type.format_defaults(option.default, option.sample_default)[0]
        paragraphs.append(f"{text}\n{facts}\n#{option.name} = {default}".rstrip() + "\n")
    return "\n".join(paragraphs)


def _given(
    path: str | None, environ: Mapping[str, str], overrides: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    """Each value that somebody gave, as (option, value, place), the weakest place first."""
    if path is not None:
        for name, text in _read_file(path).items():
            yield name, text, path
    by_variable = {variable(name): name for name in _BY_NAME}
    for key in sorted(key for key in environ if key.startswith(PREFIX)):
        if key in by_variable and environ[key].strip():
            yield by_variable[key], environ[key], "the environment"
        elif key not in by_variable and key != FILE_VARIABLE and not key.startswith(TEST_PREFIX):
            raise ConfigError(_unknown("environment variable", key, (*by_variable, FILE_VARIABLE), ""))
    for name, value in overrides.items():
        if name not in _BY_NAME:
            raise ConfigError(_unknown("option", name, _BY_NAME, " in the call"))
        if value is not None:
            yield name, value, "the call"


def _read_file(path: str) -> dict[str, str]:
    """The keys of section [DEFAULT], all of them known. A key given twice has its last value."""
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(path, sections).parse()
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration file {path} is not text: {error.reason}") from error
    except cfg.ParseError as error:
        # Neither the line nor the error that quotes it is shown: a password may stand in it.
        raise ConfigError(f"configuration file {path}, line {error.lineno}: {error.msg.lower()}") from None
    for section in sections:
        if section != "DEFAULT":
            raise ConfigError(_unknown("section", section, ("DEFAULT",), f" in {path}"))
    known = sections.get("DEFAULT", {})
    for name in known:
        if name not in _BY_NAME:
            raise ConfigError(_unknown("option", name, _BY_NAME, f" in {path}"))
    return {name: texts[-1] for name, texts in known.items()}


def _converted(option: cfg.Opt, value: Any, place: str) -> Any:
    numeric = isinstance(option.type, (types.Integer, types.Float))
    if numeric and isinstance(value, str) and not is_plain_number(value):
        raise ConfigError(_unusable(option, value, place))
    try:
        converted = option.type(value)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ConfigError(_unusable(option, value, place)) from error
    # oslo.config reads an empty text as "no number", and compares nan with the limits in vain.
    if converted is None or converted != converted:
        raise ConfigError(_unusable(option, value, place))
    return converted


def _unusable(option: cfg.Opt, value: Any, place: str) -> str:
    shown = one_line(hide_password(str(value)), 80)
    return f"{option.name} in {place}: '{shown}' is not {_expected(option)}"


def _expected(option: cfg.Opt) -> str:
    wanted = option.type
    if isinstance(wanted, types.Integer):
        return f"a whole number from {wanted.min} to {wanted.max}"
    if isinstance(wanted, types.Float):
        return f"a number of seconds from {wanted.min:g} to {wanted.max:g}"
    if isinstance(wanted, types.String) and wanted.choices:
        return f"one of {', '.join(wanted.choices)}"
    if isinstance(wanted, types.List):
        return "a list of module names such as package.module"
    return "a URL or a file, such as sqlite:///jobs.db"


def _unknown(kind: str, name: str, known: Iterable[str], where: str) -> str:
    folded = {candidate.lower(): candidate for candidate in known}
    nearest = get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[nearest[0]]}?" if nearest else f"known: {', '.join(folded.values())}"
    return f"unknown {kind} {one_line(name, 80)}{where}; {hint}"


def _default_database(environ: Mapping[str, str]) -> str:
    # The specification of XDG has relative paths ignored.
    data = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):
        home = environ.get("HOME") or os.path.expanduser("~")
        data = os.path.join(home, ".local", "share")
        if not os.path.isabs(data):
            raise ConfigError("database is not given, and there is no home directory to keep it in")
    return f"sqlite:///{Path(data, 'ebbtide', 'ebbtide.db')}"


if __name__ == "__main__":
    sys.stdout.write(sample())
