"""CommandTask: a task that is an external program."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from ebbtide.tasks.base import CancelableTask
from ebbtide.trees import end_marked, end_tree, term_marked, term_tree
from ebbtide.wording import one_line

__all__ = ["CommandFailed", "CommandTask", "OutputExists"]

_LOOK_SECONDS = 0.05
_READ_BYTES = 65536
_LONGEST_LINE = 65536
_HOOKS = ("command", "environment", "folder", "outputs")


class CommandFailed(RuntimeError):
    """A program ended otherwise than it should."""


class OutputExists(RuntimeError):
    """What a program is to make is there already; nothing was started."""


class CommandTask(CancelableTask):
    """A program, started from a list of arguments, never through a shell.

        class Pack(CommandTask):
            def command(self, folder, archive):
                return ["tar", "-czf", archive, folder]

            def outputs(self, archive):
                return [archive]

    The methods that say what to run (`command`, `environment`, `folder`, `outputs`) take the task's arguments
    by name, each those that it wants. The program gets no input. What it prints goes to the job's log, line
    by line. The result is ``{"code": n, "outputs": [paths], "printed": text}``.

    On a cancel, SIGTERM goes to the program and to all that it has started, in whichever session; what is
    left after `kill_after_seconds` is killed. Nothing that it has started outlives it, after a good end
    either: a program that is to leave a daemon behind is not for this kind.

    The undo removes the declared outputs. They must not be there when the program is to begin: else nothing
    is started, since the undo could not bring back what was there before. Nothing else that the program does
    is undone.

    Attributes:
        good_codes: the exit codes that mean success.
        kill_after_seconds: between SIGTERM and SIGKILL.
        passes: the variables of the conductor's environment that the program is given; no others are.
        keeps: how many characters of what it printed last are kept for the result. 0: none.
    """

    good_codes: ClassVar[Sequence[int]] = (0,)
    kill_after_seconds: float = 5.0
    passes: ClassVar[Sequence[str]] = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")
    keeps: int = 0

    @abstractmethod
    def command(self, *args: Any, **arguments: Any) -> Sequence[str | os.PathLike[str]]:
        """The program and its arguments."""

    def environment(self, *args: Any, **arguments: Any) -> Mapping[str, str]:
        """Variables for the program, besides those that `passes` names. The place for a secret: arguments
        are seen by everybody on the machine.
        """
        return {}

    def folder(self, *args: Any, **arguments: Any) -> str | os.PathLike[str] | None:
        """Where the program starts, and what relative outputs are relative to; None: where the runner is."""
        return None

    def outputs(self, *args: Any, **arguments: Any) -> Sequence[str | os.PathLike[str]]:
        """The files and folders that the program makes."""
        return []

    def progress(self, line: str) -> float | None:
        """How far the program is, 0 to 1, as this line of its output says; None: it does not say."""
        return None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # TaskFlow reads from execute() what a task needs: what its methods need, together.
        body = _body_of(cls)
        if body is not None:
            cls.execute = body  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    def execute(self, **arguments: Any) -> Any:
        """Run the program; see the class."""
        argv, environment, folder, outputs = (_asked(getattr(self, name), arguments) for name in _HOOKS)
        paths = [os.path.abspath(os.path.join(folder or "", path)) for path in outputs]
        if self.interrupted and self.saved is not None:
            _remove(self.saved["outputs"])  # of the program that the runner's death has ended
        self._ebbtide_claim(paths)
        printed = ""
        with _Program(argv, self._ebbtide_environment(environment), folder) as program:
            for level, line in program.lines():
                if line is None:
                    if self.cancel.requested and not self.cancel.shielded:
                        program.end(self.kill_after_seconds)
                        self.checkpoint()
                    continue
                self.run.log(self.name, level, line)
                printed = (printed + line + "\n")[-self.keeps :] if self.keeps else ""
                fraction = self.progress(line)
                if fraction is not None:
                    self.report(fraction)
        self._ebbtide_judge(argv, program)
        return {"code": program.code, "outputs": paths, "printed": printed}

    def revert(self) -> None:
        """Remove the declared outputs."""
        if self.saved is not None:
            _remove(self.saved["outputs"])

    def _ebbtide_claim(self, paths: list[str]) -> None:
        """Store, before anything is made, that these outputs are this task's own."""
        for path in paths:
            if os.path.lexists(path):
                raise OutputExists(
                    f"output {one_line(path, 200)} is there already: move it away, or have another one made"
                )
        self.checkpoint({"outputs": paths})

    def _ebbtide_environment(self, wanted: Mapping[str, str]) -> dict[str, str]:
        # What begins so is how a conductor finds its programs again; it tells nothing.
        own = {name: value for name, value in os.environ.items() if name.startswith("_EBBTIDE_")}
        passed = {name: os.environ[name] for name in self.passes if name in os.environ}
        return passed | dict(wanted) | own

    def _ebbtide_judge(self, argv: Sequence[Any], program: _Program) -> None:
        if program.code in self.good_codes:
            return
        how = f"code {program.code}" if program.code >= 0 else f"signal {signal.Signals(-program.code).name}"
        said = f": {one_line(program.last_error, 300)}" if program.last_error else ""
        raise CommandFailed(f"program {one_line(str(argv[0]), 100)} ended with {how}{said}")


class _Program:
    """A running program with all that it has started, ended with its block."""

    def __init__(
        self, argv: Sequence[str | os.PathLike[str]], environment: dict[str, str], folder: Any
    ) -> None:
        if isinstance(argv, (str, bytes)) or not argv:
            raise TypeError(f"a command is a list of a program and its arguments, not {argv!r:.100}")
        self._mark = f"_EBBTIDE_COMMAND={secrets.token_hex(8)}"
        name, value = self._mark.split("=")
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment | {name: value},
            cwd=folder,
            start_new_session=True,
        )
        self.last_error = ""
        self._selector = selectors.DefaultSelector()
        for level in ("stdout", "stderr"):
            pipe = getattr(self._process, level)
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, _Lines(level))

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *error: object) -> None:
        self._kill()
        self._selector.close()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    @property
    def code(self) -> int:
        """Its exit code, once it has ended; minus the signal's number, if one has ended it."""
        return int(self._process.returncode)

    def lines(self) -> Iterator[tuple[str, str | None]]:
        """What it prints, with the name of the stream, until it has ended; None now and then, to look up."""
        ended = False
        while True:
            ready = self._selector.select(0 if ended else _LOOK_SECONDS)
            for key, _ in ready:
                lines: _Lines = key.data
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    self._selector.unregister(key.fileobj)
                yield from self._told(lines, data)
            yield "", None
            if ended and not ready:
                for key in self._selector.get_map().values():
                    yield from self._told(key.data, b"")
                return
            if not ended and self._process.poll() is not None:
                ended = True
                self._kill()  # what it has left, which may hold the pipes open

    def end(self, seconds: float) -> None:
        """SIGTERM to all of it, and SIGKILL to what is left after so many seconds."""
        term_tree(self._process.pid, before=math.inf)
        term_marked(self._mark, but_below=self._process.pid)
        give_up = time.monotonic() + seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            while True:
                # Read on: who waits for room in a pipe comes to no end.
                left = give_up - time.monotonic()
                if left <= 0:
                    break
                for key, _ in self._selector.select(0):
                    if not os.read(key.fd, _READ_BYTES):
                        self._selector.unregister(key.fileobj)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(min(left, _LOOK_SECONDS))
                    break
        self._kill()

    def _told(self, lines: _Lines, data: bytes) -> Iterator[tuple[str, str]]:
        for line in lines.add(data):
            if lines.level == "stderr":
                self.last_error = line or self.last_error
            yield lines.level, line

    def _kill(self) -> None:
        if self._process.poll() is None:
            end_tree(self._process.pid)
            self._process.wait()
        end_marked(self._mark)


class _Lines:
    """Cuts the bytes of one stream into lines."""

    def __init__(self, level: str) -> None:
        self.level = level
        self._rest = b""

    def add(self, data: bytes) -> list[str]:
        """The lines that are whole now; no data: the last one, whole or not."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > _LONGEST_LINE):
            whole.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole]


def _asked(hook: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(hook).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return hook(**{name: value for name, value in arguments.items() if takes_any or name in parameters})


def _body_of(cls: type[CommandTask]) -> Callable[..., Any] | None:
    """An execute that needs what the methods of `cls` need; None: the class has written its own."""
    if "execute" in vars(cls):
        return None
    parameters: dict[str, inspect.Parameter] = {}
    for name in _HOOKS:
        for parameter in list(inspect.signature(getattr(cls, name)).parameters.values())[1:]:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            known = parameters.get(parameter.name)
            if known is None or known.default is not parameter.empty:
                parameters[parameter.name] = parameter.replace(kind=parameter.KEYWORD_ONLY)

    def execute(self: CommandTask, **arguments: Any) -> Any:
        return CommandTask.execute(self, **arguments)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    execute.__signature__ = inspect.Signature([own, *parameters.values()])  # type: ignore[attr-defined]
    execute.__doc__ = CommandTask.execute.__doc__
    return execute


def _remove(paths: Sequence[str]) -> None:
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
