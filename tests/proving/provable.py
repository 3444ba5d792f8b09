"""Flows to be proven: good ones of each shape, and some with an undo that is not what it should be.

A program of its own imports this: EBBTIDE_TEST_PLANTED names bugs of `planted`, to be planted there.
"""

import asyncio
import importlib
import os
import subprocess
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from taskflow import retry
from taskflow.flow import Flow
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide import AsyncTask, CancelableTask, StreamTask, flow


class Make(CancelableTask):
    """Makes a folder with a file in it; both are its own, so that making and removing can be repeated.

    It fails where it is told to, half-way: in every try, or in the first.
    """

    def execute(self, folder: str, fail: str = "", number: int = 2) -> str:
        mine = Path(folder, self.name)
        mine.mkdir(exist_ok=True)
        if self.name.endswith("last"):
            self.checkpoint({"made": str(mine)})
        if fail == (self.name if number == 2 else f"first {self.name}"):
            raise ValueError(f"{self.name} was to fail")
        (mine / "file").write_text(self.job.id)
        return str(mine)

    def revert(self, folder: str, result: Any) -> None:
        _unmake(Path(folder, self.name))


class Odd(Make):
    """Makes the same; its undo does not go as it should, as its name says.

    `flaky`: it fails the first time. `hangs-once`: it hangs the first time. `hangs`: whenever. `fails`: too.
    """

    revert_timeout_seconds = 0.2
    revert_retries = 1

    def execute(self, folder: str, fail: str = "", number: int = 2) -> str:
        return super().execute(folder)

    def revert(self, folder: str, result: Any) -> None:
        tried = Path(folder).with_name(f"{self.job.id} {self.name}")
        first = not tried.exists()
        tried.touch()
        if self.name == "hangs" or (self.name == "hangs-once" and first):
            threading.Event().wait()
        if self.name == "fails" or (self.name == "flaky" and first):
            raise OSError("busy")
        super().revert(folder, result)


class MakeAwaiting(AsyncTask):
    """Makes the same, as a coroutine. One that is to fail does so once those beside it have begun.

    Otherwise, in a flow in which nothing else orders them, no two runs would come through the same points.
    """

    async def execute(self, folder: str, fail: str = "") -> str:
        mine = Path(folder, self.name)
        mine.mkdir(exist_ok=True)
        await asyncio.sleep(0)
        if fail == self.name:
            await self._others(folder)
            raise ValueError(f"{self.name} was to fail")
        (mine / "file").write_text(self.job.id)
        return str(mine)

    async def _others(self, folder: str) -> None:
        """Wait for their folders; not for ever: who was overtaken finds that they are gone again."""
        for _ in range(100):
            if all(Path(folder, name).exists() for name in ("right", "thread")):
                return
            await asyncio.sleep(0.01)

    async def revert(self, folder: str) -> None:
        await asyncio.sleep(0)
        _unmake(Path(folder, self.name))


class MakeStreaming(StreamTask):
    """Makes the same, and streams the words of its steps."""

    async def execute(self, folder: str) -> AsyncGenerator[str, None]:
        mine = Path(folder, self.name)
        mine.mkdir(exist_ok=True)
        yield "folder"
        (mine / "file").write_text(self.job.id)
        yield "file"

    async def revert(self, folder: str) -> None:
        _unmake(Path(folder, self.name))


def _unmake(mine: Path) -> None:
    (mine / "file").unlink(missing_ok=True)
    if mine.exists():
        mine.rmdir()


class Forgetful(CancelableTask):
    """Makes two files; its undo forgets one."""

    def execute(self, folder: str) -> None:
        Path(folder, "kept").touch()
        Path(folder, "forgotten").touch()

    def revert(self, folder: str) -> None:
        Path(folder, "kept").unlink(missing_ok=True)


class Edit(CancelableTask):
    """Puts another text into a file and the old one aside; its undo moves it back, which goes once."""

    def execute(self, folder: str) -> None:
        text, aside = Path(folder, "text"), Path(folder, "text.aside")
        if not aside.exists():
            text.rename(aside)
        text.write_text("new")

    def revert(self, folder: str) -> None:
        aside = Path(folder, "text.aside")
        if not self.interrupted or aside.exists():
            aside.rename(Path(folder, "text"))


class Keep(CancelableTask):
    """Makes a file that is to be gone, as long as it knows which: only from its result."""

    def execute(self, folder: str) -> str:
        path = Path(folder, "kept")
        path.touch()
        return str(path)

    def revert(self, result: Any) -> None:
        if not self.interrupted:
            Path(result).unlink(missing_ok=True)


def _serial(name: str, **options: Any) -> Flow:
    return linear_flow.Flow(name, **options).add(*(Make(name=each) for each in ("first", "second", "last")))


def _parallel(name: str, **options: Any) -> Flow:
    between = unordered_flow.Flow("between").add(*(Make(name=each) for each in ("left", "right")))
    return linear_flow.Flow(name, **options).add(Make(name="first"), between, Make(name="last"))


@flow("serial")
def serial(folder: str, fail: str = "") -> Flow:
    return _serial("serial")


@flow("parallel")
def parallel(folder: str, fail: str = "") -> Flow:
    return _parallel("parallel")


@flow("serial-retry")
def serial_retry(folder: str, fail: str = "") -> Flow:
    return _serial("serial-retry", retry=retry.Times(2, "tries", provides="number"))


@flow("parallel-retry")
def parallel_retry(folder: str, fail: str = "") -> Flow:
    return _parallel("parallel-retry", retry=retry.Times(2, "tries", provides="number"))


@flow("serial-coroutines")
def serial_coroutines(folder: str, fail: str = "") -> Flow:
    tasks = (MakeAwaiting(name="first"), MakeStreaming(name="second"), MakeAwaiting(name="last"))
    return linear_flow.Flow("serial-coroutines").add(*tasks)


@flow("parallel-coroutines")
def parallel_coroutines(folder: str, fail: str = "") -> Flow:
    """Two coroutines run at once, and beside them a thread."""
    tasks = (MakeAwaiting(name="left"), MakeStreaming(name="right"), Make(name="thread"))
    between = unordered_flow.Flow("between").add(*tasks)
    return linear_flow.Flow("parallel-coroutines").add(between, MakeAwaiting(name="last"))


@flow("odd-undo")
def odd_undo(folder: str, fail: str) -> Flow:
    """Two branches; the undo of one, whose name `fail` is, is odd."""
    between = unordered_flow.Flow("between").add(Odd(name=fail), Make(name="right"))
    return linear_flow.Flow("odd-undo").add(Make(name="first"), between, Make(name="last"))


@flow("forgetful")
def forgetful(folder: str) -> Flow:
    forget = Forgetful(name="forget")
    return linear_flow.Flow("forgetful").add(Make(name="before"), forget, Make(name="after"))


@flow("edit")
def edit(folder: str) -> Flow:
    return linear_flow.Flow("edit").add(Make(name="before"), Edit(name="edit"))


@flow("keep")
def keep(folder: str) -> Flow:
    return linear_flow.Flow("keep").add(Keep(name="keep"), Make(name="after"))


class Pipe(CancelableTask):
    """Puts a pipe where a file was; its undo leaves it."""

    def execute(self, folder: str) -> None:
        Path(folder, "text").unlink(missing_ok=True)
        os.mkfifo(Path(folder, "text"))

    def revert(self, folder: str) -> None:
        pass


class Locked(CancelableTask):
    """Removes a file from a folder that is locked; its undo leaves that."""

    def execute(self, folder: str) -> None:
        locked = Path(folder, "locked")
        locked.chmod(0o755)
        (locked / "file").unlink(missing_ok=True)
        locked.chmod(0o555)

    def revert(self, folder: str) -> None:
        pass


class Sleep(CancelableTask):
    """Changes a file, starts a program, tells the pids by a pipe, and waits; its undo does nothing."""

    def execute(self, folder: str, pipe: str) -> None:
        Path(folder, "text").write_text("new")
        program = subprocess.Popen(["sleep", "infinity"])
        Path(pipe).write_text(f"{os.getppid()} {os.getpid()} {program.pid}")
        program.wait()

    def revert(self, folder: str) -> None:
        pass


class Deep(CancelableTask):
    """Removes a file, and makes folders so deep that no path leads there; its undo leaves all."""

    def execute(self, folder: str) -> None:
        os.chdir(folder)
        Path("text").unlink(missing_ok=True)
        for _ in range(20):
            Path("x" * 250).mkdir(exist_ok=True)
            os.chdir("x" * 250)

    def revert(self, folder: str) -> None:
        pass


@flow("pipe")
def pipe(folder: str) -> Flow:
    return linear_flow.Flow("pipe").add(Pipe(name="pipe"))


@flow("locked")
def locked(folder: str) -> Flow:
    return linear_flow.Flow("locked").add(Locked(name="lock"))


@flow("sleep")
def sleep(folder: str, pipe: str) -> Flow:
    return linear_flow.Flow("sleep").add(Sleep(name="sleep"))


@flow("deep")
def deep(folder: str) -> Flow:
    return linear_flow.Flow("deep").add(Deep(name="deep"))


@flow("exits")
def exits(folder: str) -> Flow:
    return linear_flow.Flow("exits").add(Exit(name="exit"))


class Exit(CancelableTask):
    """Ends its process."""

    def execute(self) -> None:
        os._exit(3)


# Check functions.


def names(params: dict[str, Any]) -> list[str]:
    return sorted(os.listdir(params["folder"]))


def no_json(params: dict[str, Any]) -> set[str]:
    return {"no", "JSON"}


def raises(params: dict[str, Any]) -> None:
    raise LookupError("nothing to look at")


def asserts(params: dict[str, Any]) -> None:
    assert not Path(params["folder"], "forgotten").exists(), "it was forgotten"


if os.environ.get("EBBTIDE_TEST_PLANTED"):
    importlib.import_module("planted").plant_from_environment()
