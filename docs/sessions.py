"""Does what README and docs tell a reader to do, and compares what is printed with what they show.

    python docs/sessions.py [PAGE...]     renew what these pages show, or all, where something else is printed

In each page, in order: a block of Python or of a configuration file is written to the file that its first
line names; a console block is typed into one shell, command by command. A comment ``<!-- when: COMMAND -->``
before a block stands for the reader's patience: the block is typed once COMMAND succeeds. Ids, times and
paddings are of no account; a line of three dots stands for any lines.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted(Path(__file__).resolve().parent.glob("*.md")))
EXAMPLES = tuple(sorted(ROOT.glob("examples/*/README.md")))
KINDS = frozenset({"python", "ini", "console", "mermaid", "text"})
PATIENCE_SECONDS = 60.0

T = TypeVar("T")

_MARK = "=-=-="
_BLOCK = re.compile(
    r"^(?:<!-- when: (?P<when>.+?) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Step:
    """One command and what the page shows below it."""

    command: str
    shown: str


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    kind: str
    text: str
    when: str | None

    @property
    def file(self) -> str | None:
        """The name of the file that this block is; None: it has none."""
        found = re.fullmatch(r"# (\w+\.(?:py|conf))", self.text.partition("\n")[0])
        return found[1] if found else None

    @property
    def steps(self) -> list[Step]:
        """The commands of a console block; lines that begin with > go on with the one above."""
        steps = []
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            while shown.startswith("> "):
                line, _, shown = shown.partition("\n")
                command += "\n" + line.removeprefix("> ")
            steps.append(Step(command, shown))
        return steps


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(found["kind"], found["text"], found["when"]) for found in _BLOCK.finditer(text)]


class Shell:
    """One bash in a folder, fed command by command; what it and its children print ends up in one file.

    Args:
        home: an empty folder, which the shell takes for the reader's home; it stands in a new folder in it.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / "folder"
        self.folder.mkdir()
        self._printed = home / "printed"
        self._numbers = iter(range(1, 1_000_000))
        with self._printed.open("wb") as sink:
            self._bash = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=_environment(home),
                start_new_session=True,
            )

    def run(self, command: str, lines: int = 0) -> str:
        """Type the command; returns what was printed once it has ended.

        One in the background has not ended: what counts is that it has printed so many `lines`.
        """
        begin = self._printed.stat().st_size
        code = f"{_MARK}{next(self._numbers)}"
        self._type(f"{command}\necho {code}")

        def told() -> str | None:
            text = self._printed.read_bytes()[begin:].decode()
            if f"{code}\n" not in text:
                return None
            printed = text.replace(f"{code}\n", "")
            return printed if not command.endswith("&") or printed.count("\n") >= lines else None

        return self._patiently(told, f"the end of `{command}`")

    def wait_until(self, condition: str) -> None:
        """Type the condition until it succeeds."""
        self._patiently(
            lambda: _MARK in self.run(f"if {condition} >/dev/null 2>&1; then echo {_MARK}yes; fi") or None,
            f"`{condition}`",
        )

    def close(self) -> None:
        """End what is in the background as a reader would, then the shell."""
        self._type("kill $(jobs -p) 2>/dev/null; wait; exit")
        try:
            self._bash.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._bash.pid, signal.SIGKILL)
            self._bash.wait()
        assert self._bash.stdin is not None
        self._bash.stdin.close()

    def _type(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{text}\n".encode())
        self._bash.stdin.flush()

    def _patiently(self, look: Callable[[], T | None], what: str) -> T:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while (found := look()) is None:
            if time.monotonic() > give_up:
                printed = [line for line in self._printed.read_text().splitlines() if _MARK not in line]
                raise TimeoutError("\n".join([f"waited in vain for {what}; printed last:", *printed[-20:]]))
            threading.Event().wait(0.02)
        return found


def _environment(home: Path) -> dict[str, str]:
    """That of a reader called ann, whose `ebbtide` and `python` are those of this process."""
    programs = home / "bin"
    programs.mkdir()
    for name, arguments in (("ebbtide", "-P -m ebbtide"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        program.chmod(0o755)
    foreign = ("EBBTIDE_", "XDG_", "LC_", "LANG", "COLUMNS", "VIRTUAL_ENV")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    environ |= {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "LOGNAME": "ann"}
    return environ | {"LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def play(page: Path, shell: Shell) -> Iterator[tuple[Step, str]]:
    """Do all that a page says; yields each step with what was printed.

    A Python file that no command of the page names is run by itself. An example's page is done in a copy of
    its folder.
    """
    if page in EXAMPLES:
        shutil.copytree(page.parent, shell.folder, dirs_exist_ok=True)
    found = blocks(page)
    typed = " ".join(step.command for block in found for step in _console(block))
    for block in found:
        if block.when:
            shell.wait_until(block.when)
        for step in _console(block):
            yield step, shell.run(step.command, step.shown.count("\n"))
        if block.file:
            (shell.folder / block.file).write_text(block.text)
            if block.kind == "python" and not re.search(rf"\b{Path(block.file).stem}\b", typed):
                yield Step(f"python {block.file}", ""), shell.run(f"python {block.file}")


def _console(block: Block) -> list[Step]:
    return block.steps if block.kind == "console" else []


_DIFFERS_FROM_RUN_TO_RUN = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<job>"),
    (r"\b(job|unpark|accept) [0-9a-f]{8}\b", r"\1 <job>"),
    (r'("(?:mean|p95)_seconds": )\d[\d.e-]*', r"\1<span>"),
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+Z)?", "<moment>"),
    (r"\b\d\d:\d\d:\d\d\.\d{3}\b", "<time>"),
    (r"\b\d+(\.\d+)? ?m?s\b", "<span>"),
    (r"(?<!\S)[\w.-]+:\d+(:[0-9a-f]{8}:[0-9a-f]{12})?(?!\S)", "<conductor>"),
    (r"sqlite:///\S*/", "sqlite:///"),
    (r"[ \t]+", " "),
    (r"(?m)^ | $", ""),
)
# Printed by who waits for longer than a conductor of the page takes to start, on a slow machine.
_WAITS_FOR_A_CONDUCTOR = re.compile(r"^<time> waits for a conductor: none is running;.*\n", re.MULTILINE)
# Two processes write these within a millisecond or two: which comes first is nobody's promise.
_RACING = re.compile(r"^(?:\d+ )?(<time> cancel (?:forwarded|delivered).*)\n?", re.MULTILINE)


def normal(text: str) -> str:
    """The text without what differs from run to run; what raced stands at its end."""
    for pattern, put in _DIFFERS_FROM_RUN_TO_RUN:
        text = re.sub(pattern, put, text)
    text = _WAITS_FOR_A_CONDUCTOR.sub("", text)
    return "\n".join([_RACING.sub("", text).strip("\n"), *sorted(_RACING.findall(text))])


def same(printed: str, shown: str) -> bool:
    """Whether that was printed which a page shows."""
    pattern = "".join(_pattern(line) for line in normal(shown).split("\n"))
    return re.fullmatch(pattern, normal(printed) + "\n") is not None


def _pattern(line: str) -> str:
    if line == "...":
        return "(?:.*\n)*"
    # Where the undo is quicker than the answer of a cancel, the answer tells of its end.
    return (
        re.sub(r"being\\ undone$", r"(?:being undone|cancelled, everything undone)", re.escape(line)) + "\n"
    )


def same_example(printed: str, shown: str) -> bool:
    """As `same`, for the example of the README: how far its job came is the reader's affair.

    Told apart from the rest, each chapter that began is undone, the newest first.
    """
    rest = [re.sub(r".* (?:chapter-\d .*|cancel delivered)\n", "", text) for text in (printed, shown)]
    rest = [re.sub(r"(chapter-)\d(-\S+\n)(?:chapter-\d\S+\n)*", r"\1N\2", text) for text in rest]
    return same(*rest) and all(_undone_in_order(text) for text in (printed, shown))


def _undone_in_order(text: str) -> bool:
    begun, undoing, undone = (
        re.findall(rf"(chapter-\d) {words}\n", text) for words in ("begun", "is being undone", "undone")
    )
    return begun[::-1] == undoing == undone


def compare(page: Path) -> Callable[[str, str], bool]:
    """What compares the outputs of this page."""
    return same_example if page == README else same


def renew(page: Path) -> bool:
    """Show in the page what is printed now, unless that is the same; returns whether it was not.

    All of it comes from one run then, so that ids and times fit together; but lines of dots stay.
    """
    same = compare(page)
    with tempfile.TemporaryDirectory() as home:
        shell = Shell(Path(home))
        try:
            done = [
                (step, printed.replace(home, "/home/ann").replace(socket.gethostname(), "vm"))
                for step, printed in play(page, shell)
            ]
        finally:
            shell.close()
    if all(same(printed, step.shown) for step, printed in done):
        return False
    text, place = page.read_text(encoding="utf-8"), 0
    for step, printed in done:
        command = "$ " + step.command.replace("\n", "\n> ") + "\n"
        begin = text.find(command + step.shown, place)
        if begin < 0:
            continue  # a file that was run by itself
        place = begin + len(command)
        if not ("...\n" in step.shown and same(printed, step.shown)):
            text = text[:place] + printed + text[place + len(step.shown) :]
            place += len(printed)
    page.write_text(text, encoding="utf-8")
    return True


def main(arguments: list[str]) -> None:
    """Renew the pages, and tell which have changed."""
    if importlib.util.find_spec("ebbtide") is None:
        sys.exit("ebbtide is not installed here: pip install -e .")
    for page in [Path(argument).resolve() for argument in arguments] or (*PAGES, *EXAMPLES):
        print(f"{page.name}: {'renewed' if renew(page) else 'as it was'}")


if __name__ == "__main__":
    main(sys.argv[1:])
