"""Every error that Ebbtide raises on purpose, in families by what the caller can do about it.

    UsageError         correct the call
    NotFound           ask for something that exists
    Conflict           accept it: the job is in a state that rules the wish out
    NotAllowed         have somebody do it who may, or come with another token
    StoreUnavailable   nothing was stored; try again, or repair the store

Each class takes its facts, keeps them as attributes and builds the message from them: one line in lower
case that says what, which one, and what to do now. The facts are also `args`, so that an error that
crosses to another process is rebuilt from them there. `exit_code` is what the command line ends with.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import ClassVar

from ebbtide.wording import hide_password, one_line

_SHOWN_NAMES = 12


class EbbtideError(Exception):
    """Root of all errors of this package."""

    exit_code: ClassVar[int] = 1


class UsageError(EbbtideError):
    """The call itself is wrong; repeating it unchanged never helps."""

    exit_code = 2


class NotFound(EbbtideError):
    """What was asked for does not exist here."""

    exit_code = 3


class Conflict(EbbtideError):
    """The job's present state rules this out. Nothing was changed."""

    exit_code = 4


class NotAllowed(EbbtideError):
    """Whoever asks may not do this. Nothing was changed."""

    exit_code = 4

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)

    def __str__(self) -> str:
        return f"not allowed: {one_line(self.problem)}"


class StoreUnavailable(EbbtideError):
    """The store cannot be used. Nothing was stored, and the same call may be made again; but for two of its
    kinds, `AnswerLost` and `CommitUnknown`, which say otherwise.
    """

    exit_code = 5

    def __init__(self, detail: str) -> None:
        self.detail = hide_password(detail)
        super().__init__(self.detail)

    def __str__(self) -> str:
        return f"the store cannot be used, nothing was stored: {one_line(self.detail)}"


class StoreBusy(StoreUnavailable):
    """Another transaction was in the way of this one, which was rolled back. Repeating it at once helps."""


class CommitUnknown(StoreUnavailable):
    """The store was asked to commit, and its answer was lost. Reading back tells, once it can be read."""

    def __str__(self) -> str:
        return (
            f"the store's answer was lost: whether this is stored is not known ({one_line(self.detail)}); "
            "look with `ebbtide ls` before you repeat it"
        )


class ConfigError(UsageError):
    """An option is unknown, or its value cannot be used. The message names option and place."""

    def __init__(self, message: str) -> None:
        self.message = hide_password(message)
        super().__init__(self.message)

    def __str__(self) -> str:
        return one_line(self.message)


class FolderRefused(UsageError):
    """A folder that has to be one user's alone is not. `problem` says what is wrong, and what to do."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = str(path)
        self.problem = problem
        super().__init__(self.path, problem)

    def __str__(self) -> str:
        return f"folder {one_line(self.path)} is refused: {one_line(self.problem)}"


class ParameterError(UsageError):
    """Parameters do not fit the flow. `problems` are pairs of parameter and what is wrong with it."""

    def __init__(self, flow: str, problems: Iterable[tuple[str, str]]) -> None:
        self.flow = flow
        self.problems = list(problems)
        super().__init__(self.flow, self.problems)

    def __str__(self) -> str:
        shown = self.problems[:_SHOWN_NAMES]
        told = "; ".join(f"{one_line(name, 60)}: {one_line(text, 200)}" for name, text in shown)
        more = len(self.problems) - _SHOWN_NAMES
        rest = f"; and {more} more" if more > 0 else ""
        return f"parameters do not fit flow {one_line(self.flow, 110)}: {told}{rest}"


class PayloadTooLarge(UsageError):
    """Something to be stored with the job is above its limit. Sizes are bytes."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.what = what
        self.size = size
        self.limit = limit
        super().__init__(what, size, limit)

    def __str__(self) -> str:
        return (
            f"{one_line(self.what, 110)}: {self.size} bytes are above the limit of {self.limit}; "
            "keep the data in a file and pass its path"
        )


class AmbiguousJob(UsageError):
    """A prefix fits more than one job."""

    def __init__(self, prefix: str, matches: Iterable[str]) -> None:
        self.prefix = prefix
        self.matches = list(matches)
        super().__init__(self.prefix, self.matches)

    def __str__(self) -> str:
        matches = _names(self.matches)
        return f"more than one job begins with {one_line(self.prefix, 60)}: {matches}; write more of its id"


class FlowRefused(UsageError):
    """A flow's definition breaks a rule, such as a task that cannot be cancelled."""

    def __init__(self, flow: str, problem: str) -> None:
        self.flow = flow
        self.problem = problem
        super().__init__(flow, problem)

    def __str__(self) -> str:
        return f"flow {one_line(self.flow, 110)} is refused: {one_line(self.problem)}"


class JobNotFound(NotFound):
    """No job has this id, and none begins with it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(job_id)

    def __str__(self) -> str:
        if not self.job_id.strip():
            return "the id of a job is empty; `ebbtide ls` lists the jobs of this store"
        return f"job {one_line(self.job_id, 60)} is not known; `ebbtide ls` lists the jobs of this store"


class FlowNotFound(NotFound):
    """No flow of this name (and version, if one was named) is registered in this process."""

    def __init__(self, flow: str, known: Iterable[str]) -> None:
        self.flow = flow
        self.known = list(known)
        super().__init__(self.flow, self.known)

    def __str__(self) -> str:
        nearest = get_close_matches(self.flow, self.known, n=1)
        hint = f"; did you mean {one_line(nearest[0], 110)}?" if nearest else ""
        more = "" if nearest else "; name modules with more in flow_modules, or EBBTIDE_FLOW_MODULES"
        listed = _names(self.known) if self.known else "none"
        return f"flow {one_line(self.flow, 110)} is not known{hint} (known: {listed}{more})"


class TokenNotFound(NotFound):
    """No token has this id."""

    def __init__(self, token_id: str) -> None:
        self.token_id = token_id
        super().__init__(token_id)

    def __str__(self) -> str:
        return f"token {one_line(self.token_id, 60)} is not known; `ebbtide token list` lists them"


class SavepointNotReached(NotFound):
    """A job cannot go back to a savepoint that it has not come to, or not any more."""

    def __init__(self, job_id: str, savepoint: str, reached: Iterable[str]) -> None:
        self.job_id = job_id
        self.savepoint = savepoint
        self.reached = list(reached)
        super().__init__(job_id, savepoint, self.reached)

    def __str__(self) -> str:
        told = f"reached: {_names(self.reached)}" if self.reached else "it has reached none"
        shown = one_line(self.savepoint, 110)
        return f"job {one_line(self.job_id, 60)} has not reached a savepoint '{shown}' ({told})"


class TooLate(Conflict):
    """A cancel came after the job's outcome was stored. `state` is that outcome."""

    def __init__(self, job_id: str, state: str) -> None:
        self.job_id = job_id
        self.state = str(state)
        super().__init__(self.job_id, self.state)

    def __str__(self) -> str:
        return f"job {one_line(self.job_id, 60)} is already {self.state}: too late to cancel it"


# What a person may ask for; the other edges are of conductors, and their names are for logs.
_REFUSED_WORDS = {
    "retried": "cannot be retried: it is {state}, and only a failed or cancelled job can",
    "from_failure": "cannot go on from a failure: it is {state}; only a job that was posted to hold can, "
    "whose task has failed",
    "unparked": "cannot be unparked: it is {state}, and only a parked job can",
    "accepted": "cannot be accepted as it is: it is {state}, and only a parked job can",
    "accepted_as_failed": "cannot be accepted as it is: it is {state}, and only a parked job can",
    "accepted_as_cancelled": "cannot be accepted as it is: it is {state}, and only a parked job can",
    "paused": "cannot be paused: it is {state}, and only a pending or running job can",
    "resumed": "cannot be resumed: it is {state}, and only a paused job can",
    "rewound": "cannot be rewound: it is {state}, and only a pending, running or paused job can",
    "result": "has no result: it is {state}, and only a completed job has one",
}


class EdgeRefused(Conflict):
    """The table of states has no such edge from where the job is. `edge` is the edge's name."""

    def __init__(self, job_id: str, state: str, edge: str) -> None:
        self.job_id = job_id
        self.state = str(state)
        self.edge = edge
        super().__init__(self.job_id, self.state, self.edge)

    def __str__(self) -> str:
        words = _REFUSED_WORDS.get(self.edge, f"is {{state}}: {self.edge} is not possible")
        return f"job {one_line(self.job_id, 60)} {words.format(state=self.state)}"


class KeyBusy(Conflict):
    """An exclusive key is taken, and the post was to be refused then. `jobs` hold it, or wait for it."""

    def __init__(self, key: str, jobs: Iterable[str]) -> None:
        self.key = key
        self.jobs = list(jobs)
        super().__init__(self.key, self.jobs)

    def __str__(self) -> str:
        by = f" by job {_names(self.jobs)}" if self.jobs else ""
        return f'exclusive key {one_line(self.key, 110)} is taken{by}: try later, or post with on_busy "wait"'


class ParentEnding(Conflict):
    """A job that has ended, or is being undone, gets no child any more."""

    def __init__(self, job_id: str, state: str) -> None:
        self.job_id = job_id
        self.state = str(state)
        super().__init__(self.job_id, self.state)

    def __str__(self) -> str:
        word = f"is {self.state}" if self.state in ("completed", "failed", "cancelled") else "is being undone"
        return f"job {one_line(self.job_id, 60)} {word}: no child can be posted to it; post without a parent"


class KeyReused(UsageError):
    """A post with this idempotency key is stored already, and was of something else."""

    def __init__(self, key: str, job_id: str) -> None:
        self.key = key
        self.job_id = job_id
        super().__init__(key, job_id)

    def __str__(self) -> str:
        return (
            f"idempotency key {one_line(self.key, 110)} is that of job {one_line(self.job_id, 60)}, which is "
            "another post: take another key, or repeat the same post"
        )


class AnswerLost(StoreUnavailable):
    """What was asked for is stored; only the job could not be read afterwards. Do not ask again."""

    def __init__(self, job_id: str, detail: str) -> None:
        self.job_id = job_id
        super().__init__(detail)
        self.args = (self.job_id, self.detail)

    def __str__(self) -> str:
        return (
            f"job {one_line(self.job_id, 60)}: what you asked for is stored, but the store cannot be read "
            f"now ({one_line(self.detail, 200)}); `ebbtide show` tells later"
        )


class SchemaMismatch(StoreUnavailable):
    """The tables of the store are older or newer than this program's, or belong to another one.

    `state` is "older", "newer", "foreign", or "damaged", where `found` is what the database said.
    """

    def __init__(self, url: str, found: str | None, expected: str, state: str = "damaged") -> None:
        self.url = hide_password(url)
        self.found = found
        self.expected = expected
        self.state = str(state)
        super().__init__(f"schema {found} found at {self.url}, {expected} expected")
        self.args = (self.url, found, expected, self.state)

    def __str__(self) -> str:
        database, found = f"database {one_line(self.url)}", one_line(self.found or "", 120)
        match self.state, bool(found):
            case "older", True:
                return f"{database} has schema {found}, not {self.expected}: run `ebbtide db upgrade`"
            case "older", False:
                return f"{database} has TaskFlow's tables alone: `ebbtide db upgrade` adds those of ebbtide"
            case "newer", _:
                return (
                    f"{database} has schema {found}, this program knows none after {self.expected}: "
                    "a newer ebbtide is needed"
                )
            case "foreign", True:
                return (
                    f"{database} has schema {found}, which this program does not know: a newer ebbtide is "
                    "needed, or another database (--database)"
                )
            case "foreign", False:
                return (
                    f"{database} has tables, but no schema of ebbtide: name another database with --database"
                )
        return (
            f"{database} has lost a part of its schema {self.expected} ({found}): restore a backup of it, "
            "or name another database with --database"
        )


class NotADatabase(StoreUnavailable):
    """The file exists and is something else. It was not changed."""

    def __init__(self, path: str, detail: str) -> None:
        self.path = str(path)
        super().__init__(detail)
        self.args = (self.path, self.detail)

    def __str__(self) -> str:
        path = one_line(self.path)
        return f"{path} is not a database ({one_line(self.detail)}); name another with --database"


class ClaimLost(EbbtideError):
    """Another conductor holds the job now. The run stops and reverts nothing: the new holder will."""

    def __init__(self, job_id: str, epoch: int) -> None:
        self.job_id = job_id
        self.epoch = epoch
        super().__init__(job_id, epoch)

    def __str__(self) -> str:
        return f"job {one_line(self.job_id, 60)} has another holder: the claim of epoch {self.epoch} is lost"


def _names(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    listed = ", ".join(one_line(name, 110) for name in names[:_SHOWN_NAMES])
    return f"{listed} and {more} more" if more > 0 else listed
