"""What tasks log and print, kept for `ebbtide logs`."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TextIO

from ebbtide.conductor.redaction import Redactor, any_active, redact_active
from ebbtide.jobs import clock
from ebbtide.tasks.payload import storable

__all__ = ["LogBuffer", "capturing", "install"]

MAX_LINE = 4000


class LogBuffer:
    """The captured lines of one run that are not stored yet. Safe to use from any thread.

    Of a job, over all its attempts, the newest `limit` lines are kept. Lines are numbered without
    gaps; the numbers of dropped ones are not used again. They are without the run's secrets.
    """

    def __init__(
        self, job_id: str, attempt: int, stored: int, limit: int, redactor: Redactor | None = None
    ) -> None:
        self._job_id = job_id
        self._attempt = attempt
        self._lock = threading.Lock()
        self._lines: deque[dict[str, Any]] = deque(maxlen=limit)
        self._redactor = redactor or Redactor()
        # Of a line that has no end yet: what is shown of it, and a secret that begins there.
        self.longest_part = MAX_LINE + self._redactor.longest
        self.limit = limit
        self.number = stored  # of the last line
        self.on_line: Callable[[], None] = lambda: None  # called after each line

    def add(self, task: str | None, level: str, text: str) -> None:
        if self.limit == 0:
            return
        shown = storable(self._redactor.redact(text, MAX_LINE)[:MAX_LINE])
        with self._lock:
            self.number += 1
            self._lines.append(
                {
                    "job": self._job_id,
                    "number": self.number,
                    "at": clock.wall(),
                    "attempt": self._attempt,
                    "task": task,
                    "level": level,
                    "text": shown,
                }
            )
        self.on_line()

    def take(self) -> tuple[list[dict[str, Any]], int]:
        """The lines since the last call, which the caller stores, and the number of the last line."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
            return lines, self.number


class _Target:
    """Where the output of one task goes. Its coroutines, and threads that they wait for, may share it."""

    def __init__(self, buffer: LogBuffer, task: str) -> None:
        self.partial: dict[str, str] = {}
        self._lock = threading.Lock()  # guards `partial`
        self._buffer = buffer
        self._task = task

    def write(self, level: str, text: str) -> None:
        """Text as it is printed, of which a line may come in parts."""
        with self._lock:
            lines = (self.partial.pop(level, "") + text).split("\n")
            self.partial[level] = lines[-1][: self._buffer.longest_part]
        for line in lines[:-1]:
            self._buffer.add(self._task, level, line)

    def log(self, level: str, text: str) -> None:
        for line in text.splitlines():
            self._buffer.add(self._task, level, line)

    def end(self) -> None:
        for level, text in self.partial.items():
            if text:
                self._buffer.add(self._task, level, text)


# Of a context: bodies that are coroutines share one thread. A thread begins in an empty one.
_here: ContextVar[_Target | None] = ContextVar("here", default=None)


@contextlib.contextmanager
def capturing(buffer: LogBuffer, task: str) -> Iterator[None]:
    """What this thread, or coroutine, logs goes to `buffer` meanwhile; what it prints as well, if `install`
    was told so.
    """
    target = _Target(buffer, task)
    before = _here.get()
    _here.set(target)
    try:
        yield
    finally:
        target.end()
        _here.set(before)


_installing = threading.Lock()  # two conductors of one program may start at once


def install(*, outputs: bool) -> None:
    """Start capturing in this process: log records; and with `outputs` stdout and stderr of tasks, too.

    Outside `capturing` all goes where it went before. What threads of a task's own log and print
    counts as outside, unless they were started in its context, as ``asyncio.to_thread`` does. Log records
    have lost their secrets before any handler sees them.
    """
    with _installing:
        make = logging.getLogRecordFactory()
        if not isinstance(make, _Records):
            logging.setLogRecordFactory(_Records(make))
        root = logging.getLogger()
        if not any(isinstance(handler, _CaptureHandler) for handler in root.handlers):
            root.addHandler(_CaptureHandler())
    if outputs:
        sys.stdout = _CaptureStream(sys.stdout, "stdout")
        sys.stderr = _CaptureStream(sys.stderr, "stderr")


class _Records:
    """Makes log records without the secrets of the runs that go on in this process."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        if any_active():
            _redact(record)
        return record


def _redact(record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001  # its arguments do not fit: handlers would tell of it, and show them
        text = f"a log message and arguments that do not fit it: {record.msg} {record.args}"
    hidden = redact_active(text)
    if hidden != text:
        record.msg, record.args = hidden, ()
    if record.exc_info:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        hidden = redact_active(text)
        if hidden != text:
            # Where formatters look for a traceback that was formatted already.
            record.exc_info, record.exc_text = None, hidden


class _CaptureHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        target = _here.get()
        if target is None:
            self._pass_on(record)
            return
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001
            # A record whose arguments do not fit its message must not fail the task that logged it.
            self.handleError(record)
            return
        target.log(record.levelname.lower(), text)

    def _pass_on(self, record: logging.LogRecord) -> None:
        # With a handler at its root, logging no longer falls back to stderr by itself.
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and logging.getLogger().handlers == [self]:
            last.handle(record)


class _CaptureStream(io.TextIOBase):
    def __init__(self, stream: TextIO, level: str) -> None:
        self._stream = stream
        self._level = level

    def write(self, text: str) -> int:
        target = _here.get()
        if target is None:
            self._stream.write(redact_active(text))
        else:
            target.write(self._level, text)
        return len(text)

    @property
    def buffer(self) -> io.RawIOBase:
        """For bytes; they are captured as text."""
        return _CaptureBytes(self, self._stream)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


class _CaptureBytes(io.RawIOBase):
    def __init__(self, text: _CaptureStream, stream: TextIO) -> None:
        self._text = text
        self._stream = stream

    def write(self, data: Any) -> int:
        if _here.get() is None:
            text = bytes(data).decode("utf-8", "surrogateescape")
            self._stream.buffer.write(redact_active(text).encode("utf-8", "surrogateescape"))
            return len(data)
        self._text.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True
