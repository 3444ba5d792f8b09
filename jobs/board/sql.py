"""SqlJobBoard: TaskFlow's jobboard on a table."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import tenacity
from taskflow import exceptions
from taskflow.jobs import base

from ebbtide.errors import CommitUnknown, EbbtideError, StoreUnavailable
from ebbtide.jobs.board.job import SqlJob
from ebbtide.jobs.board.options import BoardOptions
from ebbtide.jobs.board.rows import Row, Rows
from ebbtide.jobs.board.ticker import Ticker
from ebbtide.jobs.store import Store
from ebbtide.tasks import payload

__all__ = ["SqlJobBoard"]

_T = TypeVar("_T")

_RANKS = {priority: rank for rank, priority in enumerate(base.JobPriority)}  # declared from high to low


class SqlJobBoard(base.NotifyingJobBoard):  # type: ignore[misc]  # taskflow is untyped
    """A TaskFlow jobboard on a table of its own, in an SQLite file or a PostgreSQL database.

        board = taskflow.jobs.backends.fetch("work", {"board": "sql", "connection": "sqlite:////jobs.db"},
                                             persistence=backend)

    It is handed out highest priority first, and oldest first within one priority. Of those who claim a job at
    the same time one wins. A claim is a lease: this board renews it for as long as the process lives and the
    board is open, so an owner that dies loses it after `expiry` seconds. Nobody is told who has lost a
    claim: its next `consume` is refused, and `find_owner` tells whoever asks (as TaskFlow's
    CheckingClaimListener does). What was stored by then stands: the board keeps no stale owner from writing
    into the persistence.

    Details are JSON, and never anything else: they are refused when they are posted, and nothing that is
    read is unpickled or imported by this board.

    POSTED and REMOVAL are told of all jobs of the board, whoever has posted or removed them, by a thread
    that looks every `poll` seconds; also of those that are there when the first listener comes.

    Args:
        name: as TaskFlow wants it; it is not stored.
        conf: see `BoardOptions`.
        persistence: from where jobs get their logbooks.

    Raises:
        ConfigError: the configuration cannot be used.

    Every method raises TaskFlow's JobFailure when the database is away, or the board is not connected.
    """

    def __init__(self, name: str, conf: Mapping[str, Any], persistence: Any = None) -> None:
        super().__init__(name, conf)
        self._options = BoardOptions.of(conf)
        self._persistence = persistence
        self._guard = threading.Lock()  # over what connect() and close() set, and the claims
        self._closed = threading.Event()
        self._store: Store | None = None
        self._rows: Rows | None = None
        self._tickers: list[Ticker] = []
        self._epochs: dict[str, int] = {}  # of the claims that this opening of the board has
        self._seen: dict[str, SqlJob] = {}  # what was told to listeners; of the watching thread alone

    # Opening and closing.

    @property
    def connected(self) -> bool:
        return self._rows is not None

    def connect(self) -> None:
        """Open the database, and make the tables when they are not there. Nothing, when it is open."""
        with self._guard:
            if self._rows is not None:
                return
            store = Store(self._options.connection)
            rows = Rows(store, self._options.namespace, secrets.token_hex(16), self._options.expiry)
            try:
                with _translated("the board cannot be opened"):
                    rows.ensure_tables()
            except BaseException:
                store.close()
                raise
            self._closed.clear()
            self._store, self._rows = store, rows
            self._tickers = [
                Ticker("ebbtide-board-renewal", self._options.expiry / 3, self._renew),
                Ticker("ebbtide-board-watch", self._options.poll, self._tell_changes),
            ]

    def close(self) -> None:
        """Close the database. Nothing, when it is closed. Claims stay until their leases are over, as they
        do when the process dies: their engines may be at work still.
        """
        self._closed.set()
        with self._guard:
            tickers, self._tickers = self._tickers, []
        for ticker in tickers:
            ticker.stop()
        with self._guard:
            store, rows = self._store, self._rows
            self._store, self._rows = None, None
            self._epochs.clear()
        if store is not None and rows is not None:
            with contextlib.suppress(StoreUnavailable), store:  # its lease ends by itself as well
                rows.unregister()
        self._seen.clear()

    def pause(self, seconds: float) -> None:
        """Wait, unless and until the board is closed."""
        self._closed.wait(seconds)

    # Looking.

    def iterjobs(self, only_unclaimed: bool = False, ensure_fresh: bool = False) -> Iterator[SqlJob]:
        """The jobs on the board, read page by page while the iterator is used: always fresh."""
        return self._iterate(self._opened(), only_unclaimed)

    def _iterate(self, rows: Rows, only_unclaimed: bool) -> Iterator[SqlJob]:
        after: tuple[int, int] | None = None
        while True:
            with _translated("the board cannot be read"):
                page = rows.page(after, only_unclaimed=only_unclaimed)
            if not page:
                return
            for row in page:
                yield SqlJob(self, row, self._persistence)
            after = (page[-1]["rank"], page[-1]["sequence"])

    def wait(self, timeout: float | None = None) -> Iterator[SqlJob]:
        """An iterator over the jobs, once there is any.

        Raises:
            NotFound: there was none for `timeout` seconds.
        """
        give_up = None if timeout is None else time.monotonic() + timeout
        while not self.job_count:
            left = self._options.poll if give_up is None else give_up - time.monotonic()
            if left <= 0:
                raise exceptions.NotFound(f"no job was posted within {timeout} seconds")
            self.pause(min(self._options.poll, left))
        return self.iterjobs()

    @property
    def job_count(self) -> int:
        rows = self._opened()
        with _translated("the board cannot be read"):
            return rows.count()

    def find_owner(self, job: SqlJob) -> str | None:
        """Who has claimed the job; None: nobody, or somebody whose lease is over."""
        row = self.row_of(job)
        return row["owner"] if row is not None and row["held"] else None

    def row_of(self, job: SqlJob) -> Row | None:
        """What is stored of the job now."""
        rows = self._opened()
        with _translated(f"job {job.uuid} cannot be read"):
            return rows.find(job.uuid)

    # Changing.

    def post(
        self,
        name: str,
        book: Any = None,
        details: Mapping[str, Any] | None = None,
        priority: base.JobPriority | str = base.JobPriority.NORMAL,
    ) -> SqlJob:
        """As promised by `JobBoard`; the posting is stored when this returns.

        Raises:
            PayloadError: the details are not JSON.
        """
        rows = self._opened()
        wanted = base.JobPriority.convert(priority)
        posting = {
            "uuid": str(uuid.uuid4()),
            "name": name,
            "priority": wanted.value,
            "rank": _RANKS[wanted],
            "details": payload.encode(dict(details or {}), f"the details of job {name}"),
            "book": None
            if book is None
            else payload.encode({"name": book.name, "uuid": book.uuid}, "the book"),
        }
        with _translated(f"job {name} cannot be posted"):
            return SqlJob(self, self._posted(rows, posting), self._persistence, book)

    def _posted(self, rows: Rows, posting: Mapping[str, Any]) -> Row:
        try:
            return rows.post(posting)
        except CommitUnknown:
            row = self._patiently(lambda: rows.find(posting["uuid"]))
            if row is None:
                # Not repeated: it may have been stored, and be consumed by now.
                raise
            return row

    @base.check_who  # type: ignore[untyped-decorator]
    def claim(self, job: SqlJob, who: str) -> None:
        """As promised by `JobBoard`.

        Raises:
            UnclaimableJob: somebody has claimed it, perhaps under the same name.
            NotFound: it is on the board no more.
        """
        rows = self._opened()
        with self._guard:
            claimed_here = job.uuid in self._epochs
        # Asked first: conductors try every job of the board again and again, and a refusal is no write.
        row = self.row_of(job)
        epoch = None
        if row is not None and not row["held"] and not claimed_here:
            with _translated(f"job {job.uuid} cannot be claimed"):
                epoch = self._claimed(rows, job.uuid, who)
        if epoch is None:
            self._refuse_claim(job)
        with self._guard:
            self._epochs[job.uuid] = epoch

    def _claimed(self, rows: Rows, job_uuid: str, who: str) -> int | None:
        try:
            return rows.claim(job_uuid, who)
        except CommitUnknown:
            return self._patiently(lambda: rows.our_epoch(job_uuid))

    def _refuse_claim(self, job: SqlJob) -> NoReturn:
        row = self.row_of(job)
        if row is None:
            raise exceptions.NotFound(f"job {job.uuid} is not on the board")
        owner = f"claimed by {row['owner']} already" if row["held"] else "not claimed: try again"
        raise exceptions.UnclaimableJob(f"job {job.uuid} is {owner}")

    @base.check_who  # type: ignore[untyped-decorator]
    def consume(self, job: SqlJob, who: str) -> None:
        """As promised by `JobBoard`. A database that is away is waited for.

        Raises:
            NotFound: the job is on the board no more, or nobody has claimed it.
            JobFailure: another has claimed it.
        """
        self._leave(job, who, self._opened().consume)

    @base.check_who  # type: ignore[untyped-decorator]
    def abandon(self, job: SqlJob, who: str) -> None:
        """As promised by `JobBoard`, otherwise as `consume`."""
        self._leave(job, who, self._opened().abandon)

    @base.check_who  # type: ignore[untyped-decorator]
    def trash(self, job: SqlJob, who: str) -> None:
        """As promised by `JobBoard`, otherwise as `consume`. Its row stays in the table, off the board."""
        self._leave(job, who, self._opened().trash)

    def _leave(self, job: SqlJob, who: str, change: Callable[[str, str, int | None], bool]) -> None:
        # From here on nobody renews the claim: whatever becomes of this, its lease comes to an end.
        with self._guard:
            epoch = self._epochs.pop(job.uuid, None)
        unsure = False

        def leave() -> bool:
            nonlocal unsure
            try:
                return change(job.uuid, who, epoch)
            except CommitUnknown:
                unsure = True
                raise

        with _translated(f"job {job.uuid} cannot leave its owner"):
            done = self._patiently(leave)
        if not done:
            self._refuse_leave(job, who, unsure=unsure)

    def _refuse_leave(self, job: SqlJob, who: str, *, unsure: bool) -> None:
        row = self.row_of(job)
        if row is None:
            if unsure:
                return  # the try whose answer was lost has removed it
            raise exceptions.NotFound(f"job {job.uuid} is not on the board")
        if not row["held"]:
            raise exceptions.NotFound(f"job {job.uuid} has no owner")
        raise exceptions.JobFailure(f"job {job.uuid} is claimed by {row['owner']}, and not by this {who}")

    # Entities.

    def register_entity(self, entity: Any) -> None:
        """Say that this entity is here, until the board is closed or the process dies."""
        rows = self._opened()
        with _translated(f"{entity.kind} {entity.name} cannot be registered"):
            details = payload.encode(entity.to_dict(), f"what is told of {entity.name}")
            rows.register(entity.kind, entity.name, details)

    def entities(self) -> list[dict[str, Any]]:
        """What the entities that are here have told of themselves."""
        rows = self._opened()
        with _translated("the board cannot be read"):
            return [payload.decode(row["details"]) for row in rows.entities()]

    # What the threads do.

    def _renew(self) -> None:
        rows = self._opened()
        with self._guard:
            ours = dict(self._epochs)
        kept = rows.renew(list(ours))
        with self._guard:
            for lost in set(ours) - kept:
                if self._epochs.get(lost) == ours[lost]:
                    del self._epochs[lost]  # its lease was over, and another has it

    def _tell_changes(self) -> None:
        if not len(self.notifier):
            return
        rows = self._opened()
        now = rows.uuids()
        if now == self._seen.keys():
            return
        for gone in self._seen.keys() - now:
            self.notifier.notify(base.REMOVAL, {"job": self._seen.pop(gone)})
        for job in self._iterate(rows, only_unclaimed=False):
            if job.uuid not in self._seen:
                self._seen[job.uuid] = job
                self.notifier.notify(base.POSTED, {"job": job})

    def _opened(self) -> Rows:
        rows = self._rows
        if rows is None:
            raise exceptions.JobFailure(f"board {self.name} is not connected")
        return rows

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """The call, repeated while the database is away: a conductor asks only once."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreUnavailable),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            stop=tenacity.stop_after_delay(self._options.patience),
            sleep=self.pause,
            reraise=True,
        )
        return attempts(call)


@contextlib.contextmanager
def _translated(told: str) -> Iterator[None]:
    """TaskFlow's conductors go on after a JobFailure, and after no other error."""
    try:
        yield
    except payload.PayloadError:
        raise
    except EbbtideError as error:
        raise exceptions.JobFailure(f"{told}: {error}") from error
