"""The end of a runner at a chosen change of the disk, within one process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

CHANGES = ("mkdir", "rename", "replace", "symlink", "unlink", "rmdir", "fsync")
"""The calls by which the tasks change a disk, and the one that follows each file they write."""


class Died(BaseException):
    """Stands for the end of a runner: no code of a task handles it."""


class Deaths:
    """Lets a run die at its n-th change of the disk; 0: never. `made`: how many changes there were."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at = at
        self.after = after
        self.made = 0

    @contextmanager
    def armed(self, monkeypatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, self._deadly(getattr(os, name)))
            yield

    def _deadly(self, change):
        def changed(*args, **kwargs):
            self.made += 1
            if self.made == self.at and not self.after:
                raise Died
            number = self.made
            try:
                return change(*args, **kwargs)
            finally:
                if number == self.at:
                    raise Died

        return changed
