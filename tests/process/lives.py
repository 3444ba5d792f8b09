"""A job's life in which one process after another holds it, and one of them is killed at a certain commit."""

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ebbtide import faults

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.execution import Execution
    from ebbtide.conductor.options import RunOptions
from ebbtide.flows import Registry
from ebbtide.jobs import Job, Poster
from ebbtide.jobs.claims import Claims, new_owner_id
from ebbtide.jobs.store import Store

AT_COMMITS = ("journal.committing", "journal.committed", "outcome.committing", "outcome.committed")
# More than any of these jobs needs, with one crash.
_HOLDERS = 8

#: Called in the holder with a fault point's name and task, its run and its store.
Meet = Callable[[str, str | None, Execution, Store], None]


def note(folder: str, *words: str) -> None:
    with open(Path(folder, "effects"), "a") as log:
        log.write(" ".join(words) + "\n")


class Life:
    """One job, held by one process after another; the one that comes to a certain commit is killed there.

    Args:
        wishes: for `Poster.post`.
    """

    def __init__(
        self, database: str, registry: Registry, folder: Path, kill_at: int, flow: str, **wishes: Any
    ) -> None:
        self.database = database
        self.registry = registry
        self.folder = folder
        self.kill_at = kill_at
        self.killed = False
        folder.mkdir()
        self._key = f"{flow}@1"
        with Poster(database, registry=registry) as poster:
            self.job = poster.post(flow, {"folder": str(folder)}, **wishes).id

    def hold(self, meet: Meet = lambda *_: None) -> None:
        """Have it held until it ends, or rests."""
        for _ in range(_HOLDERS):
            self._hold_once(meet)
            if self.shown.state in ("cancelled", "failed", "completed", "parked", "paused"):
                return
        raise AssertionError(f"it is still {self.shown.state}")

    @property
    def shown(self) -> Job:
        with Poster(self.database, registry=self.registry) as poster:
            return poster.show(self.job)

    @property
    def lines(self) -> list[str]:
        return (self.folder / "effects").read_text().splitlines()

    @property
    def told(self) -> str:
        return f"killed at commit {self.kill_at}: {self.lines}"

    def _hold_once(self, meet: Meet) -> None:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._be_holder(meet)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        self.killed |= os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0

    def _be_holder(self, meet: Meet) -> None:
        with Store(self.database) as store:
            gone = self.folder / "owner"
            if gone.exists():
                Claims(store, gone.read_text(), name="gone", lease_seconds=3600).release()
            claims = Claims(store, new_owner_id(), name="holder", lease_seconds=3600)
            claims.register(flows=[self._key], runners=1, isolation="process")
            gone.write_text(claims.owner)
            options = RunOptions(self.database, (), claims.owner, 4, 10.0, 100)
            claim = claims.claim([self._key])
            assert claim is not None
            execution = Execution(store, self.registry, claim, options)
            if claims.to_pause():
                execution.pause()

            def come(name: str, task: str | None) -> None:
                meet(name, task, execution, store)
                if name in AT_COMMITS:
                    self._count()

            with faults.watch(come):
                execution.run()

    def _count(self) -> None:
        count = self.folder / "count"
        number = int(count.read_text()) + 1 if count.exists() else 1
        count.write_text(str(number))
        if number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def lives(begin: Callable[[int], Life], *, at_least: int) -> Iterator[Life]:
    """A life for each commit; the last one meets no crash.

    Args:
        begin: makes the one that is killed at a commit of that number.
    """
    number = 0
    while True:
        number += 1
        life = begin(number)
        yield life
        if not life.killed:
            assert number > at_least, "so few commits have such a job"
            return
