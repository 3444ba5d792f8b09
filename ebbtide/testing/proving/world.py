"""The world that a flow changes: folders, which are kept aside and put back, and what a check says."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ebbtide.errors import UsageError
from ebbtide.testing.proving.holders import ChildFailed, answer_of
from ebbtide.trees import end_below
from ebbtide.wording import one_line

__all__ = ["Check", "Folders", "World"]

Check = Callable[[dict[str, Any]], Any]

CHECK = "the check function"
_FOLDER = "a folder"
_OTHER = "something else"
_UNREADABLE = "unreadable"
_FAILED = "failed"  # no JSON begins so

Picture = Mapping[str, str]
"""Path, or what else is looked at -> what is there."""


class Folders:
    """Trees that are to be as they were: names, contents, modes, targets of links. Not times, not owners.

    Args:
        paths: folders or files; what is not there is to be gone again.
        aside: an empty folder in which copies are kept.
    """

    def __init__(self, paths: Iterable[Path], aside: Path) -> None:
        self._paths = list(paths)  # as they were given: so they are told
        self._aside = aside
        for path in self._paths:
            if path.is_symlink():
                raise UsageError(f"{path} is a link: name the file or folder that it leads to")
            if aside.resolve().is_relative_to(path.resolve()):
                raise UsageError(f"{path} holds the folder for temporary files: set TMPDIR, or name another")
        self.before = self.picture()
        for name, told in self.before.items():
            if told.startswith(_OTHER):
                raise UsageError(f"{name} is neither file, folder nor link: it cannot be put back")
            if told.endswith(_UNREADABLE) and not Path(name).is_symlink():
                raise UsageError(f"{name} cannot be read: it could not be put back")
        self._copy_all(self.before, to_aside=True)
        if self.picture() != self.before:
            raise UsageError("what is to be the same changes by itself: stop whatever writes there")

    @property
    def any(self) -> bool:
        """Whether there are such trees."""
        return bool(self._paths)

    @property
    def are_as_before(self) -> bool:
        """Whether all is as it was. What cannot be looked at is not."""
        try:
            return self.picture() == self.before
        except Exception:  # noqa: BLE001  # whatever it is: nobody may take it for the same
            return False

    def picture(self) -> dict[str, str]:
        """What is there now, by path."""
        return {name: told for path in self._paths for name, told in _look(path)}

    def put_back(self) -> None:
        """Make all as it was before. Only what differs is touched."""
        for path in self._paths:
            _open_up(path)
        now = self.picture()
        wrong = {name for name in now.keys() | self.before.keys() if now.get(name) != self.before.get(name)}
        for name in {str(Path(name).parent) for name in wrong} & now.keys():
            wrong |= {name} if _make_usable(Path(name)) else set()
        for name in sorted(wrong & now.keys(), reverse=True):
            if not now[name].startswith(_FOLDER):
                Path(name).unlink()
            elif not self.before.get(name, "").startswith(_FOLDER):
                Path(name).rmdir()
        self._copy_all(wrong & self.before.keys(), to_aside=False)

    def _copy_all(self, names: Iterable[str], *, to_aside: bool) -> None:
        """Copy entries between their places and their copies; modes of folders last, which may forbid it."""
        folders = []
        for name in sorted(names):
            number, path = next((n, path) for n, path in enumerate(self._paths) if _below(name, path))
            pair = (Path(name), self._aside / str(number) / Path(name).relative_to(path))
            source, target = pair if to_aside else pair[::-1]
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.before[name].startswith(_FOLDER):
                target.mkdir(exist_ok=True)
                folders.append((source, target))
            else:
                shutil.copy2(source, target, follow_symlinks=False)
        for source, target in reversed(folders):
            shutil.copystat(source, target)


class World:
    """All that a proof looks at.

    Args:
        check: given the parameters; returns what is to be as before, as JSON can hold it.
        seconds: how long it may take.
    """

    def __init__(self, folders: Folders, check: Check | None, params: dict[str, Any], seconds: float) -> None:
        self.folders = folders
        self._check = check
        self._params = params
        self._seconds = seconds
        #: Whether anything is looked at, and whether all of it can be put back.
        self.looked_at = check is not None or folders.any
        self.restorable = folders.any and check is None
        try:
            self._before = self._picture(self._answer)
        except ChildFailed as error:
            raise UsageError(f"the check function failed before anything was run: {error}") from error

    def _picture(self, ask: Callable[[], str]) -> Picture:
        picture = dict(self.folders.picture())
        if self._check is not None:
            picture[CHECK] = ask()
            end_below()
        return picture

    def _answer(self) -> str:
        return str(answer_of(self._checked, self._seconds))

    def _answer_or_failure(self) -> str:
        try:
            return self._answer()
        except ChildFailed as error:
            return f"{_FAILED}: {error}"

    def _checked(self) -> str:
        assert self._check is not None
        return json.dumps(self._check(dict(self._params)), sort_keys=True)

    def differences(self, job: str) -> list[str]:
        """What is not as it was; a job's id, of which names may be made, stands as JOB in it."""
        now = self._picture(self._answer_or_failure)
        told = []
        for name in sorted(now.keys() | self._before.keys()):
            then, there = self._before.get(name), now.get(name)
            if then != there:
                told.append(_difference(name, then, there).replace(job, "JOB"))
        return told

    def settle(self, job: str) -> list[str]:
        """Before the next job: put back what can be; returns the differences that are left even then."""
        self.folders.put_back()
        return self.differences(job)


def _difference(name: str, then: str | None, now: str | None) -> str:
    if name == CHECK and now is not None and now.startswith(_FAILED):
        return f"{CHECK} {now}"
    if name == CHECK:
        return f"{CHECK} says {one_line(now, 200)} instead of {one_line(then, 200)}"
    if then is None:
        return f"{name} is new"
    return f"{name} is gone" if now is None else f"{name} differs: {now} instead of {then}"


def _below(name: str, path: Path) -> bool:
    return Path(name).is_relative_to(path)


def _look(path: Path) -> Iterable[tuple[str, str]]:
    """Nothing that is found there raises: a task may leave anything, and it may vanish meanwhile."""
    try:
        status = path.lstat()
        mode = f"mode {stat.S_IMODE(status.st_mode):o}"
        if stat.S_ISLNK(status.st_mode):
            yield str(path), f"a link to {os.readlink(path)}"
        elif stat.S_ISREG(status.st_mode):
            yield str(path), f"a file of {status.st_size} bytes, {mode}, {_digest(path)}"
        elif stat.S_ISDIR(status.st_mode):
            yield from _look_into(path, mode)
        else:
            yield str(path), f"{_OTHER}, {mode}"
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:  # of the folder that it is in
        yield str(path), f"{_OTHER}, {_UNREADABLE}"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return f"SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    except PermissionError:
        return _UNREADABLE


def _look_into(path: Path, mode: str) -> Iterable[tuple[str, str]]:
    try:
        names = sorted(os.listdir(path))
    except PermissionError:
        yield str(path), f"{_FOLDER}, {mode}, {_UNREADABLE}"
        return
    yield str(path), f"{_FOLDER}, {mode}"
    for name in names:
        yield from _look(path / name)


def _open_up(path: Path) -> None:
    """Make readable whatever folder below is not."""
    if path.is_dir() and not path.is_symlink():
        if not os.access(path, os.R_OK | os.X_OK):
            _make_usable(path)
        for name in os.listdir(path):
            _open_up(path / name)


def _make_usable(folder: Path) -> bool:
    """Let its owner read and change it; False: that he may already."""
    mode = stat.S_IMODE(folder.lstat().st_mode)
    if not folder.is_dir() or folder.is_symlink() or mode & stat.S_IRWXU == stat.S_IRWXU:
        return False
    folder.chmod(mode | stat.S_IRWXU)
    return True
