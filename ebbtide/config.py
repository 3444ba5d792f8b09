"""What a conductor and the command line can be told from outside: one frozen object, built once.

Later places win: the defaults, the file (INI, section [DEFAULT]), the environment (EBBTIDE_<OPTION>), the
call. Values are taken as they stand: unlike in other programs on oslo.config, a `$` refers to nothing,
since it is at home in passwords. `python -m ebbtide.config` prints the sample file.
"""

import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from oslo_config import cfg, types

from ebbtide.apioptions import API_OPTIONS
from ebbtide.configfile import read_file
from ebbtide.errors import ConfigError
from ebbtide.limitoptions import limit_options
from ebbtide.optionkinds import (
    ModuleName,
    Reference,
    Text,
    byte_count,
    expected,
    seconds,
)
from ebbtide.places import at_home, default_database, default_signal_folder
from ebbtide.policyoptions import POLICY_OPTIONS, SCHEDULER_VARIABLES
from ebbtide.serveroptions import SERVER_OPTIONS
from ebbtide.wording import hide_password, is_plain_number, one_line, unknown

PREFIX = "EBBTIDE_"
FILE_VARIABLE = "EBBTIDE_CONFIG"
# What other programs know; our own variables win over them.
FOLDER_VARIABLE = "TASK_CANCELLATION_DIR"
FOREIGN_VARIABLES = {FOLDER_VARIABLE: "signal_folder"} | SCHEDULER_VARIABLES
# Test suites may pass switches of their own to the processes they start.
TEST_PREFIX = "EBBTIDE_TEST_"
_FENCE_SHARE = 0.9


@dataclass(frozen=True, repr=False)
class Settings:
    """All options, typed and checked. `repr` and `str` show URLs without their passwords."""

    database: str
    flow_modules: tuple[str, ...] = ()
    runners: int = 2
    isolation: str = "process"
    lease_seconds: float = 30.0
    renew_seconds: float = 10.0
    self_fence_seconds: float = 20.0
    grace_seconds: float = 10.0
    kill_after_seconds: float = 5.0
    revert_retries: int = 3
    revert_retry_seconds: float = 1.0
    revert_timeout_seconds: float = 600.0
    memory_limit_mib: int = 0
    sweep_seconds: float = 1.0
    poll_seconds: float = 0.015
    signal: str = "auto"
    signal_folder: str = ""
    signal_keep_seconds: float = 86400.0
    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_channel: str = "ebbtide"
    zookeeper_hosts: str = "127.0.0.1:2181"
    zookeeper_path: str = "/ebbtide"
    zookeeper_auth: str = ""
    zookeeper_ca_file: str = ""
    zookeeper_cert_file: str = ""
    zookeeper_key_file: str = ""
    board: str = "none"
    board_window: int = 500
    task_threads: int = 4
    log_lines: int = 10000
    log_level: str = "info"
    max_parameter_bytes: int = 1048576
    max_result_bytes: int = 1048576
    max_retries: int = 0
    retry_interval: float = 60.0
    job_timeout: float = 0.0
    keep_completed_days: float = 0.0
    keep_failed_days: float = 0.0
    keep_cancelled_days: float = 0.0
    allowed_hosts: tuple[str, ...] = ()
    requests_per_second: int = 200
    cancels_per_second: int = 100
    streams_per_token: int = 64
    secret_references: tuple[str, ...] = ()

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
        return hide_password(value) if _BY_NAME[name].secret else value


OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.Opt(
        "database",
        type=Text("a URL or a file, such as sqlite:///jobs.db"),
        secret=True,
        sample_default="sqlite:////var/lib/ebbtide/ebbtide.db",
        help="Where the jobs are stored: the URL of a database, or the path of an SQLite file. Without it: "
        "ebbtide.db in the user's data directory (XDG_DATA_HOME, else ~/.local/share/ebbtide). Set it "
        "when several users or services share one store; a password in it is never printed.",
    ),
    cfg.ListOpt(
        "flow_modules",
        default=list(Settings.flow_modules),
        item_type=ModuleName(),
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
    seconds(
        "lease_seconds",
        Settings.lease_seconds,
        0.1,
        86400,
        "How long a conductor that fell silent keeps its jobs. Lower it to have the jobs of a "
        "dead machine taken over sooner; raise it when the database or the machine stalls for "
        "longer than this.",
    ),
    seconds(
        "renew_seconds",
        Settings.renew_seconds,
        0.01,
        86400,
        "How often a conductor renews its lease; below self_fence_seconds. Change it along with "
        "lease_seconds, of which it should be about a third.",
    ),
    seconds(
        "self_fence_seconds",
        Settings.self_fence_seconds,
        0.05,
        86400,
        "After how long without a renewal a conductor stops its own runners; below lease_seconds, "
        "so that they are dead before another one takes over. Change it along with lease_seconds, "
        "of which it should be two thirds.",
    ),
    *limit_options(Settings),
    cfg.IntOpt(
        "memory_limit_mib",
        default=Settings.memory_limit_mib,
        min=0,
        max=1 << 30,
        help="How much memory a runner may use, in MiB, and each program that a task starts for itself: a "
        "task that asks for more fails with MemoryError. 0 sets no limit. Set it where one job may not "
        "take the memory of its neighbours.",
    ),
    seconds(
        "sweep_seconds",
        Settings.sweep_seconds,
        0.01,
        3600,
        "How often a conductor reads the job rows without having been told to, which finds what a "
        "lost signal did not say. Raise it to spare a store that many conductors share; a lost "
        "signal then costs that much more.",
    ),
    seconds(
        "poll_seconds",
        Settings.poll_seconds,
        0.001,
        60,
        "How often an SQLite store that is being written to is asked whether it has changed, which takes "
        "microseconds. Raise it to wake a battery-powered machine less often; cancels and posts are then "
        "noticed that much later.",
    ),
    *SERVER_OPTIONS,
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
    byte_count(
        "max_parameter_bytes",
        Settings.max_parameter_bytes,
        "How many bytes the parameters of a job may take, as JSON. Raise it when callers cannot pass a "
        "file's path instead; every reader of a job reads its parameters as well.",
    ),
    byte_count(
        "max_result_bytes",
        Settings.max_result_bytes,
        "How many bytes of JSON a task may return, save at a checkpoint, or the job have as its result. "
        "Raise it when tasks cannot return a file's path instead; each commit writes them.",
    ),
    *POLICY_OPTIONS,
    *API_OPTIONS,
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
        values["database"] = default_database(environ)
    if not values.get("signal_folder"):
        values["signal_folder"] = default_signal_folder(environ)
    values["signal_folder"] = at_home(values["signal_folder"], environ)
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
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
        facts = f"# ({expected(option)}; environment: {variable(option.name)})"
        default = option.type.format_defaults(option.default, option.sample_default)[0]
        paragraphs.append(f"{text}\n{facts}\n#{option.name} = {default}".rstrip() + "\n")
    return "\n".join(paragraphs)


def _given(
    path: str | None, environ: Mapping[str, str], overrides: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    """Each value that somebody gave, as (option, value, place), the weakest place first."""
    if path is not None:
        for name, text in read_file(path, _BY_NAME).items():
            yield name, text, path
    for key, name in FOREIGN_VARIABLES.items():
        if environ.get(key, "").strip():
            yield name, environ[key], f"the environment ({key})"
    by_variable = {variable(name): name for name in _BY_NAME}
    for key in sorted(key for key in environ if key.startswith(PREFIX)):
        if key in by_variable and environ[key].strip():
            yield by_variable[key], environ[key], "the environment"
        elif key not in by_variable and key != FILE_VARIABLE and not key.startswith(TEST_PREFIX):
            raise ConfigError(unknown("environment variable", key, (*by_variable, FILE_VARIABLE), ""))
    for name, value in overrides.items():
        if name not in _BY_NAME:
            raise ConfigError(unknown("option", name, _BY_NAME, " in the call"))
        if value is not None:
            yield name, value, "the call"


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
    # Where a reference is wanted somebody may have given the secret.
    given = "what is given" if isinstance(option.type, Reference) else f"'{_shown(value)}'"
    return f"{option.name} in {place}: {given} is not {expected(option)}"


def _shown(value: Any) -> str:
    return one_line(hide_password(str(value)), 80)


if __name__ == "__main__":
    sys.stdout.write(sample())
