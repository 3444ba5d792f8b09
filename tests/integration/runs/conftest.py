"""A bench: a store, conductors, flows that log their effects outside the store, gates to stop them at."""

import dataclasses
import importlib.util
import select
import socket
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor import Conductor
    from ebbtide.conductor.execution import LOST, Execution
    from ebbtide.conductor.threads import ThreadRunners
from ebbtide.config import Settings
from ebbtide.flows import Registry
from ebbtide.jobs import CancelAnswer, Job, Poster
from ebbtide.tasks import CancelEvent
from ebbtide.testing import history, wait_until
from tests.model.replay import state_after

STEPS = Path(__file__).with_name("steps.py")
PATIENCE_SECONDS = 30.0


def _load_steps() -> Any:
    # With importlib mode nothing beside a test can be imported by name.
    name = "ebbtide_test_steps"
    spec = importlib.util.spec_from_file_location(name, STEPS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


steps = _load_steps()


class Gates:
    """Where tasks arrive and wait to be let on; see `pass_gate` in steps.py."""

    def __init__(self, folder: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(steps.address(str(folder)))
        self._listener.listen(64)
        self._arrived: list[tuple[str, socket.socket]] = []

    def wait(self, *places: str) -> None:
        """Wait until somebody has arrived at each of these places."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        missing = Counter(places)
        while missing - Counter(place for place, _ in self._arrived):
            if not select.select([self._listener], [], [], deadline - time.monotonic())[0]:
                raise TimeoutError(f"nobody came to {missing}; only to {self.places}")
            line, _ = self._listener.accept()
            self._arrived.append((line.recv(200).decode(), line))

    @property
    def places(self) -> list[str]:
        """Where somebody has arrived and was not let on yet, as far as anybody has waited."""
        return [place for place, _ in self._arrived]

    def open(self, place: str) -> None:
        """Let on whoever came to `place` first."""
        index = self.places.index(place)
        with self._arrived.pop(index)[1] as line:
            line.send(b".")

    def close(self) -> None:
        """Let nobody on: whoever waits meets an error."""
        for _, line in self._arrived:
            line.close()
        self._arrived = []
        self._listener.close()


class Bench:
    """What a test of runs works with. One job, as a rule: all write into the same effect log."""

    def __init__(
        self, folder: Path, database: str, ask: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder = folder
        self.database = database
        self._ask = ask
        self.monkeypatch = monkeypatch
        self.registry = Registry()
        steps.register(self.registry)
        self.poster = Poster(database, registry=self.registry)
        self.gates = Gates(folder)
        self.shapes = steps.SHAPES
        self.steps = steps
        self.conductors: list[Conductor] = []
        self._moved = False
        self._executions: list[Execution] = []
        self._edges: list[str] = []
        self.watch_runs()

    # Doing.

    def start(self, workers: int = 4, **settings: Any) -> Conductor:
        """Start a conductor; returns when it claims jobs."""
        ready = threading.Event()
        # What fails to undo is parked at once, unless a test wants it tried again.
        chosen = Settings(
            database=self.database, runners=1, task_threads=workers, isolation="thread", revert_retries=0
        )
        chosen = dataclasses.replace(chosen, **settings)
        registry = None if chosen.isolation == "process" else self.registry
        conductor = Conductor(chosen, registry=registry, on_ready=ready.set)
        conductor.start()
        self.conductors.append(conductor)
        assert ready.wait(PATIENCE_SECONDS)
        return conductor

    def drain(self, conductor: Conductor) -> None:
        """Tell a conductor to drain; returns when its runs have been told to stop between tasks."""
        told = threading.Event()
        real = ThreadRunners.suspend

        def suspend(self: ThreadRunners) -> None:
            real(self)
            told.set()

        self.monkeypatch.setattr(ThreadRunners, "suspend", suspend)
        conductor.stop()
        assert told.wait(PATIENCE_SECONDS)

    def drained(self, conductor: Conductor) -> None:
        """Wait until a conductor that was told to drain has ended."""
        self.conductors.remove(conductor)
        conductor.wait()

    def stop(self, conductor: Conductor) -> None:
        """Drain a conductor; returns when it has ended."""
        conductor.stop()
        self.drained(conductor)

    def in_folder(self, name: str) -> "Bench":
        """From now on effects are logged in a new folder. There are no gates there."""
        self.folder = self.folder.parent / name if self._moved else self.folder / name
        self._moved = True
        self.folder.mkdir()
        return self

    def post(self, flow: str, plan: dict[str, list[str]] | None = None) -> Job:
        return self.poster.post(flow, {"folder": str(self.folder), "plan": plan or {}})

    def run(self, flow: str, plan: dict[str, list[str]] | None = None) -> Job:
        """Post a job of the shape `flow` and start a conductor with as many workers as the shape says."""
        job = self.post(flow, plan)
        self.start(self.shapes[flow].workers)
        return job

    def cancel(self, job: Job, reason: str = "enough") -> CancelAnswer:
        """Cancel, and write into the effect log that it was accepted, once it was."""
        answer = self.poster.cancel(job.id, reason)
        if answer.answer == "accepted":
            steps.note(str(self.folder), "accepted")
        return answer

    def retry(self, job: Job) -> None:
        steps.note(str(self.folder), "retried")
        self.poster.retry(job.id)

    # Waiting.

    def until(self, what: str, predicate: Callable[[], bool]) -> None:
        """Wait until `predicate` holds."""
        wait_until(predicate, what, poster=self.poster, seconds=PATIENCE_SECONDS, tell=self.noted)

    def reached(self, *places: str) -> None:
        """Wait until the job is at these places."""
        try:
            self.gates.wait(*places)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.noted()}\n{self.told()}") from error

    def ended(self, *tasks: str, times: int = 1) -> None:
        """Wait until these tasks have come to their end, each so many times."""
        wanted = dict.fromkeys(tasks, times)
        self.until(f"{tasks} ended", lambda: Counter(wanted) <= Counter(self.words("end")))

    def forwarded(self, job: Job) -> None:
        """Wait until the cancel request has reached the run's event."""

        def is_forwarded() -> bool:
            cancel = self.poster.show(job.id).cancel
            return cancel is not None and cancel.forwarded_at is not None

        self.until("the request is forwarded", is_forwarded)

    def final(self, job: Job) -> Job:
        """Wait until the job has ended, or is parked."""
        try:
            return self.poster.wait(job.id, timeout=PATIENCE_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.noted()}\n{self.told()}") from error

    # Breaking.

    def watch_runs(self) -> None:
        """Remember the runs and how they end; see `lost` and `event`."""
        real = Execution.run

        def run(execution: Execution) -> str:
            self._executions.append(execution)
            edge = real(execution)
            self._edges.append(edge)
            return edge

        self.monkeypatch.setattr(Execution, "run", run)

    def lost(self) -> None:
        """Wait until a run has given its job up."""
        self.until("a run gives up", lambda: LOST in self._edges)

    @property
    def event(self) -> CancelEvent:
        """The cancel event of the latest run."""
        return self._executions[-1].event

    @property
    def stopping(self) -> bool:
        """Whether the latest run is to stop between tasks."""
        engine = self._executions[-1]._engine
        return engine is not None and engine.suspend_requested.is_set()

    def deafen(self) -> None:
        """From now on no conductor forwards anything: as if every signal were lost."""
        self.monkeypatch.setattr(ThreadRunners, "cancel", lambda self, request: False)

    def gate_before(self, owner: type, method: str, place: Callable[..., str | None]) -> None:
        """Stop calls of a method before they do anything, at the gate that `place(*arguments)` names."""
        real = getattr(owner, method)

        def gated(*args: Any, **kwargs: Any) -> Any:
            name = place(*args, **kwargs)
            if name is not None:
                steps.pass_gate(str(self.folder), name)
            return real(*args, **kwargs)

        self.monkeypatch.setattr(owner, method, gated)

    # Looking.

    @property
    def effects(self) -> list[str]:
        """The effect log, without tokens."""
        return [" ".join(line[:2]) for line in steps.noted(str(self.folder))]

    def words(self, word: str) -> list[str]:
        """The tasks that wrote this word, in order, repetitions too."""
        return [line[1] for line in steps.noted(str(self.folder)) if line[0] == word]

    def given(self) -> dict[str, str]:
        """What each task's last undo was given as the result, where it was not the true one of that round."""
        tokens: dict[str, str] = {}
        wrong: dict[str, str] = {}
        for line in steps.noted(str(self.folder)):
            if line[0] == "end":
                tokens[line[1]] = line[2]
            elif line[0] == "undo" and line[2] != tokens.pop(line[1], None):
                wrong[line[1]] = line[2]
        return wrong

    def noted(self) -> str:
        """The effect log, for a failed test."""
        return f"effects: {self.effects}"

    def told(self, job: Job | None = None) -> str:
        """All that is known of a job, else of all, for a failed test."""
        return history(self.poster, job)

    def sql(self, query: str, *values: Any) -> list[Any]:
        """Ask the database itself, past all our code. A `?` stands for each value."""
        return self._ask(query, *values)

    def close(self) -> None:
        self.gates.close()
        for conductor in self.conductors:
            conductor.stop()
        for conductor in self.conductors:
            conductor.wait()
        self.poster.close()

    # Judging.

    def undone_in_order(self, shape: Any, stays: Collection[str] = (), passed: Collection[str] = ()) -> None:
        """What began was undone, once in each round, after all that depended on it, and given the truth.

        And nothing began before what it needs had ended, nor after the cancel was accepted, except what
        had `passed` its barrier before. What `stays` was not undone the last time.
        """
        standing: dict[str, str | None] = {}
        accepted = False
        for word, *rest in steps.noted(str(self.folder)):
            if word in ("accepted", "retried"):
                accepted = word == "accepted"
            elif word == "begin":
                (task,) = rest
                assert not accepted or task in passed, (
                    f"{task} began after the cancel was accepted: {self.effects}"
                )
                assert task not in standing, f"{task} began twice: {self.effects}"
                ended = {other for other, token in standing.items() if token is not None}
                assert shape.before(task) <= ended, f"{task} began too early: {self.effects}"
                standing[task] = None
            elif word == "end":
                standing[rest[0]] = rest[1]
            elif word == "undo":
                task, given = rest
                assert task in standing, f"{task} was undone although nothing of it stood: {self.effects}"
                above = shape.after(task) & standing.keys()
                assert not above, f"{task} was undone before {above}: {self.effects}"
                assert given == (standing.pop(task) or "INTERRUPTED"), f"{task} was given another result"
        assert standing.keys() == set(stays), f"{set(standing)} are not undone: {self.effects}"

    def recorded_truly(self, job: Job) -> None:
        """What our records say of the job is what the effect log says; the history is whole."""
        records = self.poster.tasks(job.id)
        assert Counter(record.task for record in records) == Counter(self.words("begin"))
        ends = Counter(self.words("end"))
        assert Counter(r.task for r in records if r.how == "returned") == ends, self.told()
        undos = Counter(self.words("undo"))
        assert Counter(r.task for r in records if r.undo_ended_at is not None) == undos, self.told()
        assert all(record.ended_at is not None for record in records), self.told()
        per_attempt: dict[tuple[int, str], list[int]] = {}
        for record in sorted(records, key=lambda record: record.round):
            per_attempt.setdefault((record.attempt, record.task), []).append(record.round)
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in per_attempt.values())
        assert state_after(self.poster.entries(job.id)) == self.poster.show(job.id).state, self.told()

    def cancelled_and_undone(self, job: Job, shape: Any, passed: Collection[str] = ()) -> Job:
        """Wait for the job's end and check that it is the promised one: cancelled, undone, recorded."""
        ended = self.final(job)
        self.undone_in_order(shape, passed=passed)
        self.recorded_truly(job)
        began = set(self.words("begin"))
        assert (ended.state, ended.phase) == ("cancelled", "cancelled"), self.told()
        assert ended.undo == ("complete" if began else "none")
        assert ended.tasks_undone == len(began)
        assert ended.cancel is not None and ended.cancel.reverted_at is not None
        last = [entry for entry in self.poster.entries(job.id) if entry.to_state is not None][-1]
        assert set(last.detail.get("undone", [])) == began
        return ended


@pytest.fixture
def bench(
    tmp_path: Path, prepared: str, ask: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    bench = Bench(tmp_path, prepared, ask, monkeypatch)
    yield bench
    bench.close()


@pytest.fixture(scope="session")
def steps_file() -> Path:
    return STEPS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize over the shapes."""
    shapes = list(steps.SHAPES.values())
    places = [(shape, task) for shape in shapes for task in shape.tasks]
    rounds = [(s, name, task) for s in shapes for name, round_ in s.rounds.items() for task in round_.begun]
    cases: dict[str, list[Any]] = {
        "shape": shapes,
        "place": places,  # a task in a shape
        "middle": [(shape, task) for shape, task in places if shape.after(task)],  # more comes after it
        "undoing": [(shape, task) for shape in shapes for task in shape.undone],  # undone after a failure
        "later": rounds,  # a task in a later round
        "again": [(s, name, task) for s, name, task in rounds if s.rounds[name].begun[task]],  # for it, too
    }
    for name in sorted(cases.keys() & set(metafunc.fixturenames)):
        metafunc.parametrize(name, cases[name], ids=_called)


def _called(case: Any) -> str:
    parts = case if isinstance(case, tuple) else (case,)
    return "-".join(str(getattr(part, "name", part)) for part in parts)
