"""Running the program that a job names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebbtide.tasks.command import CommandTask

__all__ = ["RunProgram"]

_PERCENT = re.compile(r"(?<![\d.])(100|\d{1,2})(?:\.\d{1,6})? ?%")


class RunProgram(CommandTask):
    """Run a program in a folder, with outputs that are named beforehand.

    execute: see `CommandTask`. The first percentage in a line that it prints is its progress. Provides
    ``ended``: its exit code, the full paths of the outputs, and the end of what it printed.

    undo: removes the outputs. Nothing else that the program did is undone.

    Args:
        good_codes: the exit codes that mean success.
        keeps: how many characters of what it printed last are in the result.

    Args of execute:
        program: the program and its arguments; no shell reads them.
        folder: where it starts.
        outputs: what it makes, relative to the folder; none of it may be there already.
        environment: variables for it, besides a few of the conductor's.
        secret: given to it in the variable `secret_variable`; None: it gets none.
    """

    default_provides = "ended"

    def __init__(self, good_codes: Sequence[int] = (0,), keeps: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.good_codes = tuple(good_codes)  # type: ignore[misc]  # of this program, not of the class
        self.keeps = keeps

    def command(self, program: Sequence[str]) -> Sequence[str]:
        return program

    def environment(
        self, environment: Mapping[str, str] | None, secret: str | None, secret_variable: str
    ) -> Mapping[str, str]:
        return {**(environment or {}), **({} if secret is None else {secret_variable: secret})}

    def folder(self, folder: Path) -> Path:
        return folder

    def outputs(self, outputs: Sequence[str]) -> Sequence[str]:
        return outputs

    def progress(self, line: str) -> float | None:
        found = _PERCENT.search(line)
        return None if found is None else int(found[1]) / 100
