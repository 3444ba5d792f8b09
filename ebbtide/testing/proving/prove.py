"""`prove_flow`: prepares a proof, forks the process that does it, and hears what that tells."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.conductor.undoing import UndoPolicy
from ebbtide.errors import EbbtideError, UsageError
from ebbtide.flows import Registry, load_flows
from ebbtide.flows.order import predecessors
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.store import Store
from ebbtide.jobs.views import Views
from ebbtide.tasks.wrapping import describe
from ebbtide.testing.proving.bench import Bench
from ebbtide.testing.proving.endings import ENDING, forget, held, let_in, raise_once
from ebbtide.testing.proving.holder import Subject
from ebbtide.testing.proving.proof import Covered, Proof
from ebbtide.testing.proving.prover import Prover
from ebbtide.testing.proving.warmth import warm_up
from ebbtide.testing.proving.world import Check, Folders, World
from ebbtide.trees import become_subreaper, die_with_parent, end_below
from ebbtide.wording import hide_password, one_line

__all__ = [
    "DOUBLES",
    "TASK_THREADS",
    "TIMEOUT_SECONDS",
    "UNDO_RETRIES",
    "UNDO_SECONDS",
    "ProofFailed",
    "prove_flow",
]

DOUBLES = 20
TASK_THREADS = 4
TIMEOUT_SECONDS = 60.0
UNDO_RETRIES = 3
UNDO_SECONDS = 10.0
# What makes a pause between two tries useful, that the world mends meanwhile, is not waited for.
_UNDO_PAUSE_SECONDS = 0.01
_MEMORY = Path("/dev/shm")


class ProofFailed(EbbtideError):
    """A proof could not be ended. It says nothing about the flow."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"the proof could not be ended: {one_line(self.reason, 1000)}"


def prove_flow(
    flow: str,
    params: Mapping[str, Any] | None = None,
    *,
    flow_modules: Iterable[str] = (),
    registry: Registry | None = None,
    same: Iterable[str | os.PathLike[str]] = (),
    check: Check | None = None,
    database: str | None = None,
    points: int | None = None,
    doubles: int = DOUBLES,
    seed: int | None = None,
    task_threads: int = TASK_THREADS,
    timeout_seconds: float = TIMEOUT_SECONDS,
    undo_retries: int = UNDO_RETRIES,
    undo_seconds: float = UNDO_SECONDS,
    on_point: Callable[[Covered], object] = lambda covered: None,
) -> Proof:
    """Run a flow for real, kill it at every point, cancel it at every point, and look at what is left.

    Its tasks run with all their effects, some hundred times, in forks of this process that are killed; so it
    must have a single thread (not in a worker of pytest-xdist). Prove a flow where that does no harm.

    Args:
        flow: a name, or name@version; `params` are those of every job.
        flow_modules: modules that register flows; or `registry`, the flows themselves.
        same: files and folders that an undo has to leave as they were. They are copied aside, and put back
            before each job and at the end; so jobs may complete. Without, each is cancelled before.
        check: called with the parameters, in a fork, before the proof and after each job; returns anything
            that JSON can hold, which has to be equal each time. With it each job is cancelled before it
            completes: nothing could put back what it looks at.
        database: an empty database to keep the jobs in; default: a temporary one.
        points: how many to try besides the ends of tasks and undos; default: every one.
        doubles: how many double crashes to try; `seed` is for what is chosen by chance.
        timeout_seconds: how long a run of a job may take; `task_threads`: how many tasks run at once.
        undo_retries: how often an undo is tried again, of a task whose class has no `revert_retries`;
            `undo_seconds`: how long a try may take, where there is no `revert_timeout_seconds`.
        on_point: called with each point that is covered.

    Raises:
        FlowNotFound, ParameterError, FlowRefused, UsageError, StoreUnavailable: as they stand.
        ProofFailed: it could not be ended; what `same` names is put back as far as that can be.
    """
    _refuse_threads()
    undo = UndoPolicy(undo_retries, _UNDO_PAUSE_SECONDS, undo_seconds)
    subject = _subject(flow, params or {}, registry or load_flows(flow_modules), task_threads, undo)
    chosen = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    tries = _Tries(points, doubles, chosen, timeout_seconds)
    return _proven(subject, tries, [Path(path) for path in same], check, database, on_point)


@dataclass(frozen=True)
class _Tries:
    """How much is tried."""

    points: int | None
    doubles: int
    seed: int
    seconds: float


def _subject(
    flow: str, params: Mapping[str, Any], registry: Registry, threads: int, undo: UndoPolicy
) -> Subject:
    definition = registry.get(flow)
    return Subject(registry, definition, definition.validate(params), threads, undo)


def _proven(
    subject: Subject,
    tries: _Tries,
    same: list[Path],
    check: Check | None,
    database: str | None,
    on_point: Callable[[Covered], object],
) -> Proof:
    before = predecessors(subject.definition.build(subject.params)[0])
    with held(), _folder(None) as aside, _folder(_MEMORY) as fast, let_in(), _store(database, fast) as store:
        stage = _Stage(subject, store, Folders(same, aside), check, aside, fast, before, tries)
        return _heard(stage, on_point)


@dataclass(frozen=True)
class _Stage:
    """What the process that does the proof works with."""

    subject: Subject
    store: Store
    folders: Folders
    check: Check | None
    aside: Path
    folder: Path
    before: dict[str, set[str]]
    tries: _Tries

    def prove(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Do it. Only what it puts back is left of it, whatever happens."""
        try:
            try:
                self._prove(tell)
            finally:
                self._tidy()
        except KeyboardInterrupt:
            self._tidy()  # it may have come within the other, or before it; it comes once
            raise

    def _prove(self, tell: Callable[[dict[str, Any]], None]) -> None:
        become_subreaper()
        self.store.move_in()
        warm_up(self.store, self.folder)
        gc.freeze()  # nobody's to collect in the forks: their memory stays shared
        tries = self.tries
        world = World(self.folders, self.check, self.subject.params, tries.seconds)
        bench = Bench(
            self.subject,
            self.store,
            world,
            self.folder,
            before=self.before,
            seconds=tries.seconds,
        )
        prover = Prover(
            bench,
            self.subject.definition.key,
            list(self.before),
            completes=world.restorable,
            looked_at=world.looked_at,
            points=tries.points,
            doubles=tries.doubles,
            seed=tries.seed,
            tell=lambda covered: tell({"covered": vars(covered)}),
        )
        tell({"proof": prover.prove().as_dict()})

    def _tidy(self) -> None:
        end_below()
        self.folders.put_back()

    def leave(self) -> Path | None:
        """Remove what was made for the proof. Returns where the copies are, if something is not as it was."""
        kept = None if self.folders.are_as_before else _kept(self.aside)
        _remove(self.aside)
        _remove(self.folder)
        return kept


def _heard(stage: _Stage, on_point: Callable[[Covered], object]) -> Proof:
    """Fork the stage and hear it to its end, whatever is raised here meanwhile."""
    parent = os.getpid()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    last: dict[str, Any] = {}
    with held():
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _be_stage(stage, parent, writer)
        os.close(writer)
        try:
            with let_in(), os.fdopen(reader, "rb") as lines:
                for line in lines:
                    last = json.loads(line)
                    if "covered" in last:
                        on_point(Covered(**last["covered"]))
        finally:
            # It puts back what it has changed before it ends. Nothing happens if it has ended.
            os.kill(pid, signal.SIGINT)
            os.waitpid(pid, 0)
            if (kept := stage.leave()) is not None:
                forget()  # else nobody hears where they are
                raise ProofFailed(f"what should be the same could not be put back; the copies are in {kept}")
    if "usage" in last:
        raise UsageError(last["usage"])
    if "proof" not in last:
        raise ProofFailed(last.get("failure", "its process died"))
    return Proof.from_dict(last["proof"])


def _kept(aside: Path) -> Path:
    """Where the copies are that nobody removes. They are not copied once more: the disk may be full."""
    return aside.rename(aside.with_name(aside.name.replace("proof", "kept", 1)))


def _be_stage(stage: _Stage, parent: int, writer: int) -> None:
    """Never returns. Ends in order when its parent does, however that ends."""

    def tell(facts: dict[str, Any]) -> None:
        data = (json.dumps(facts) + "\n").encode()
        while data:
            data = data[os.write(writer, data) :]

    status = 70
    try:
        try:
            die_with_parent(parent, signal.SIGINT)
            for number in ENDING:
                if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, raise_once)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            stage.prove(tell)
            status = 0
        except BaseException as error:  # noqa: BLE001  # told, not raised into the program that was forked
            with contextlib.suppress(OSError):
                tell({"usage" if isinstance(error, UsageError) else "failure": _words(error)})
        if os.getppid() != parent:
            stage.leave()
    finally:
        os._exit(status)


def _words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) if isinstance(error, EbbtideError) else describe(error)


def _refuse_threads() -> None:
    others = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
    if others:
        raise UsageError(
            f"prove_flow forks, and this process has other threads ({one_line(', '.join(others), 200)}): "
            "end them first, or run `ebbtide prove`"
        )


@contextlib.contextmanager
def _store(database: str | None, folder: Path) -> Iterator[Store]:
    """A store that is ready, and that holds nobody's jobs; none of its connections is open."""
    with Store(database or f"sqlite:///{folder / 'jobs.db'}") as store:
        ensure_schema(store)
        if database is not None and Views(store).jobs(limit=1):
            raise UsageError(f"{hide_password(database)} holds jobs: a proof wants an empty database")
        store.close()
        yield store


@contextlib.contextmanager
def _folder(parent: Path | None) -> Iterator[Path]:
    """A folder for the time of a proof; in `parent` if there is room for one."""
    where = str(parent) if parent is not None and os.access(parent, os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="ebbtide-proof-", dir=where))
    try:
        yield made
    finally:
        _remove(made)


def _remove(folder: Path) -> None:
    """Copies have the modes of what they are copies of, which may forbid to remove what is in them."""
    for each, _, _ in os.walk(folder):
        os.chmod(each, stat.S_IRWXU)
    if folder.exists():  # else it was kept
        shutil.rmtree(folder)
