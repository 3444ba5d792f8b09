"""What becomes of a job whose task fails, or that takes too long: plain values, stored with the job.

A flow has policies of its own, and so may each job have. All is arithmetic here; a run asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ebbtide.errors import UsageError
from ebbtide.wording import one_line

if TYPE_CHECKING:
    from ebbtide.config import Settings

__all__ = [
    "HOLD",
    "UNDO",
    "DecidesPolicies",
    "Limits",
    "OnFailure",
    "Policies",
    "RetryPolicy",
    "checked_on_failure",
]

OnFailure = Literal["undo", "hold"]
UNDO: OnFailure = "undo"
HOLD: OnFailure = "hold"

MAX_ATTEMPTS = 1000
MAX_SECONDS = 365 * 86400.0
_HIGHEST_FACTOR = 10.0
# Beyond that power of any factor every cap is reached; higher ones are no floats any more.
_HIGHEST_POWER = 300


@dataclass(frozen=True)
class RetryPolicy:
    """When a job that failed, and whose work is undone, is tried again by itself.

        RetryPolicy(attempts=4, interval_seconds=60, errors=("ConnectionError", "TimeoutError"))

    The first pause is `interval_seconds` long, each later one `factor` times the one before, none longer
    than `cap_seconds`. A cancel is no failure: it ends the job, in a pause too.

    Args:
        attempts: how many in all, from 1, since the job was posted or retried by hand.
        interval_seconds: between the end of the first attempt and the begin of the second.
        factor: from 1 to 10.
        jitter: by what share, 0 to 1, a pause is made longer or shorter at random, so that jobs which
            failed together do not come back together.
        cap_seconds: no pause is longer.
        errors: names of exception classes, without their modules; a failure counts if its class, or one
            that it derives from, has such a name. Empty: every failure of a task. A job that was out of
            time as a whole is tried again only if ``OutOfTime`` is among them.

    Raises:
        UsageError: a value is out of its range.
    """

    attempts: int = 1
    interval_seconds: float = 60.0
    factor: float = 2.0
    jitter: float = 0.1
    cap_seconds: float = 3600.0
    errors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _is_number(self.attempts, int) or not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise UsageError(f"attempts should be a whole number from 1 to {MAX_ATTEMPTS}")
        for name, least, most in (
            ("interval_seconds", 0.0, MAX_SECONDS),
            ("factor", 1.0, _HIGHEST_FACTOR),
            ("jitter", 0.0, 1.0),
            ("cap_seconds", 0.0, MAX_SECONDS),
        ):
            _check_range(name, getattr(self, name), least, most)
        object.__setattr__(self, "errors", _names(self.errors))

    def pause_seconds(self, made: int, names: Iterable[str], chance: float) -> float | None:
        """How long to wait before the next attempt; None: there is none.

        Args:
            made: how many attempts were made, the one that failed among them.
            names: of the failure's class and of those that it derives from; empty where no task is to blame.
            chance: a number from 0 to 1, for the jitter.
        """
        if made >= self.attempts or (self.errors and not set(self.errors) & set(names)):
            return None
        pause = self.interval_seconds * self.factor ** min(made - 1, _HIGHEST_POWER)
        spread = 1.0 + self.jitter * (2.0 * chance - 1.0)
        return min(self.cap_seconds, pause * spread)


@dataclass(frozen=True)
class Limits:
    """How long a job may take. What is over a limit is stopped like a cancelled job, undone, and failed.

    Args:
        job_seconds: of each attempt, while it is claimed: waiting in the queue, paused or parked counts
            for nothing. None: no limit.
        no_progress_seconds: how long an attempt may go without anything being stored of it: no task
            begun or ended, no progress reported, no checkpoint with data, no line logged. None: no limit.

    Raises:
        UsageError: a limit is no number of seconds above 0.
    """

    job_seconds: float | None = None
    no_progress_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("job_seconds", "no_progress_seconds"):
            value = getattr(self, name)
            if value is not None:
                _check_range(name, value, 0.001, MAX_SECONDS)


@dataclass(frozen=True)
class Policies:
    """All that is decided of a job beforehand, as it is stored with it."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = field(default_factory=Limits)
    on_failure: OnFailure = UNDO

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values = asdict(self)
        values["retry"]["errors"] = list(self.retry.errors)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Policies:
        """The inverse of `as_dict`; an empty mapping gives the policies of a job that was posted with none.

        Raises:
            UsageError, TypeError: somebody has altered it.
        """
        retry = dict(values.get("retry", {}))
        return cls(
            RetryPolicy(**retry | {"errors": tuple(retry.get("errors", ()))}),
            Limits(**values.get("limits", {})),
            checked_on_failure(values.get("on_failure", UNDO)),
        )


class DecidesPolicies:
    """A flow, however much of it is known: what it says of its jobs, which a job may say otherwise."""

    retry: RetryPolicy | None
    limits: Limits | None
    on_failure: OnFailure | None

    def policies(
        self,
        settings: Settings,
        *,
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
        on_failure: OnFailure | None = None,
    ) -> Policies:
        """What is decided of a job of this flow: as it is posted, else as the flow says, else the options.

        Raises:
            UsageError: one of them is of another kind.
        """
        for given, kind in ((retry, RetryPolicy), (limits, Limits)):
            if given is not None and not isinstance(given, kind):
                raise UsageError(f"a {kind.__name__} is wanted, not a {type(given).__name__}")
        interval = settings.retry_interval
        by_option = RetryPolicy(
            settings.max_retries + 1, interval, cap_seconds=max(interval, RetryPolicy.cap_seconds)
        )
        return Policies(
            retry or self.retry or by_option,
            limits or self.limits or Limits(job_seconds=settings.job_timeout or None),
            checked_on_failure(on_failure or self.on_failure or UNDO),
        )


def checked_on_failure(word: object) -> OnFailure:
    """UsageError unless it is one of the two words."""
    if word == UNDO:
        return UNDO
    if word == HOLD:
        return HOLD
    raise UsageError(f"on_failure is {UNDO} or {HOLD}, not {one_line(repr(word), 40)}")


def _names(names: Iterable[str]) -> tuple[str, ...]:
    given = (names,) if isinstance(names, str) else tuple(names)
    for name in given:
        if not isinstance(name, str) or not name.isidentifier():
            shown = one_line(repr(name), 60)
            raise UsageError(f"errors are names of exception classes, such as TimeoutError, not {shown}")
    return given


def _check_range(name: str, value: object, least: float, most: float) -> None:
    if not _is_number(value, (int, float)) or not least <= value <= most:  # type: ignore[operator]
        raise UsageError(f"{name} should be a number from {least:g} to {most:g}")


def _is_number(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and value == value
