"""A source, a destination, and ways to run file-processing on them without a conductor."""

import json
import os
import stat
import subprocess
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from taskflow import exceptions as taskflow_exceptions

from ebbtide.errors import EbbtideError
from ebbtide.flows.file_processing import file_processing
from ebbtide.flows.registry import registered
from ebbtide.tasks import CancelableTask, CancelEvent, Cancelled, JobInfo
from ebbtide.tasks.files import ArchivePart, PrepareDestination, ScanFolder
from ebbtide.tasks.run import DetachedRun
from tests.services.flowrun import tasks_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from taskflow import engines

FLOW = "file-processing"


class WatchedRun(DetachedRun):
    """A run in memory that lets a test act in the middle of a task, and keeps the text of each result."""

    def __init__(self, job_id: str, attempt: int, event: CancelEvent | None = None) -> None:
        super().__init__(event, JobInfo(id=job_id, flow=FLOW, attempt=attempt))
        self.on_report: Callable[[str, float], None] = lambda task, fraction: None
        self.results: dict[str, str] = {}

    def report(self, task: str, fraction: float, message: str) -> None:
        super().report(task, fraction, message)
        self.on_report(task, fraction)

    def returned(self, task: str, text: str) -> None:
        super().returned(task, text)
        self.results[task] = text


class Walk:
    """Runs the tasks of a flow one after the other and undoes them: no engine, always the same steps."""

    def __init__(self, run: WatchedRun, params: dict[str, Any]) -> None:
        definition = registered.get(FLOW)
        flow, self.store = definition.build(definition.validate(params))
        self.run = run
        self.tasks = list(tasks_of(flow))
        for task in self.tasks:
            task.bind(run)
            if task.name in run.results:
                self._keep(task, json.loads(run.results[task.name]))

    def forward(self, until: str | None = None) -> "Walk":
        """Execute the tasks that have not returned yet, up to and with `until`."""
        for task in self.tasks:
            if task.name not in self.run.results:
                self._keep(task, task.execute(**self._arguments(task.rebind)))
            if task.name == until:
                break
        return self

    def back(self) -> None:
        """Undo what had begun, newest first; a task that has not begun says so itself."""
        for task in reversed(self.tasks):
            if all(name in self.store for name in task.revert_rebind.values()):
                self.back_one(task)

    def back_one(self, task: CancelableTask) -> None:
        task.revert(result=None, flow_failures={}, **self._arguments(task.revert_rebind))
        self.run.results.pop(task.name, None)

    def _arguments(self, rebind: dict[str, str]) -> dict[str, Any]:
        return {argument: self.store[name] for argument, name in rebind.items()}

    def _keep(self, task: CancelableTask, value: Any) -> None:
        for name in task.save_as:
            self.store[name] = value


class Work:
    """What a test of file-processing works with."""

    def __init__(self, folder: Path) -> None:
        assert file_processing is registered.get(FLOW).factory
        self.folder = folder
        self.source = folder / "source"
        self.destination = folder / "destination"
        self.source.mkdir()

    def file(self, name: str, content: bytes | str = b"content\n") -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def small_tree(self) -> None:
        """Something of each kind, and more than one file for some part."""
        for number in range(6):
            self.file(f"folder/{number}.txt", f"{number}\n" * 50)
        self.file("empty")
        (self.source / "link").symlink_to("folder/1.txt")
        (self.source / "folder" / "nothing in it").mkdir()

    def watched(self, job: str = "job", attempt: int = 1, event: CancelEvent | None = None) -> WatchedRun:
        return WatchedRun(job, attempt, event)

    def walk(self, run: WatchedRun | None = None, **params: Any) -> Walk:
        return Walk(run or self.watched(), self._params(params))

    def engine(self, run: WatchedRun | None = None, **params: Any) -> SimpleNamespace:
        """Run the flow in TaskFlow's own parallel engine: state, published, errors."""
        run = run or self.watched()
        definition = registered.get(FLOW)
        flow, store = definition.build(definition.validate(self._params(params)))
        with ThreadPoolExecutor(4) as pool:
            engine = engines.load(flow, engine="parallel", executor=pool, store=store)
            engine.compile()
            for node in engine.compilation.execution_graph.nodes():
                if isinstance(node, CancelableTask):
                    node.bind(run)
            errors: list[BaseException] = []
            try:
                engine.run()
            except taskflow_exceptions.WrappedFailure as error:
                errors = [failure.exception for failure in error]
            except (EbbtideError, Cancelled) as error:
                errors = [error]
        state = engine.storage.get_flow_state()
        published = engine.storage.fetch("published") if state == "SUCCESS" else None
        return SimpleNamespace(state=state, published=published, errors=errors)

    def scanned(self) -> str:
        """The staging folder after a scan into one part, by tasks that belong to no flow."""
        staging: str = PrepareDestination().execute(source=self.source, destination=self.destination)
        self.listing = ScanFolder(1).execute(source=self.source, exclude=[], staging=staging)
        return staging

    def archive(self, staging: str) -> None:
        ArchivePart(1).execute(source=self.source, staging=staging, listing=self.listing)

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.destination / "current" / "manifest.json").read_bytes())
        return found

    def unpack(self) -> Path:
        """The published archives, unpacked in order by the tar program, which keeps times exactly."""
        target = self.folder / "unpacked"
        target.mkdir()
        for entry in self.manifest()["archives"]:
            archive = self.destination / "current" / entry["name"]
            subprocess.run(["tar", "xpzf", archive, "-C", target], check=True, stderr=subprocess.DEVNULL)
        return target

    def _params(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"source": str(self.source), "destination": str(self.destination), **params}


def snapshot(folder: Path) -> dict[bytes, tuple[Any, ...]] | None:
    """All that lies below a folder: names, kinds, modes, contents, words of links, times of files."""
    if not os.path.lexists(folder):
        return None
    found: dict[bytes, tuple[Any, ...]] = {}
    root = os.fsencode(folder)
    for path, folders, files in os.walk(root):
        for name in (*folders, *files):
            full = os.path.join(path, name)
            state = os.lstat(full)
            kind, mode = stat.S_IFMT(state.st_mode), stat.S_IMODE(state.st_mode)
            key = os.path.relpath(full, root)
            if stat.S_ISLNK(state.st_mode):
                found[key] = (kind, os.readlink(full))
            elif stat.S_ISREG(state.st_mode):
                with open(full, "rb") as file:
                    found[key] = (kind, mode, state.st_mtime_ns, file.read())
            else:
                found[key] = (kind, mode)
    return found


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


@pytest.fixture(name="snapshot")
def _snapshot() -> Callable[[Path], dict[bytes, tuple[Any, ...]] | None]:
    return snapshot
