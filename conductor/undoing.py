"""How often an undo is tried, how long between, and when it has failed for good."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from ebbtide.conductor.enginerun import EngineRun
from ebbtide.errors import ClaimLost
from ebbtide.tasks import CancelableTask
from ebbtide.tasks.delivery import BodyLoop
from ebbtide.tasks.wrapping import SecretMissing

__all__ = ["HandedBack", "UndoFailed", "UndoPolicy", "UndoTries"]

_LONGEST_PAUSE_SECONDS = 60.0
_LOOK_SECONDS = 0.25  # how soon a wait notices that the claim is lost


class HandedBack(CancelledError):
    """A drain came between two tries: whoever goes on tries next."""


class UndoFailed(Exception):
    """No try is left. The message is what the last one ended with."""


@dataclass(frozen=True)
class UndoPolicy:
    """What the options say of an undo; a task class may say otherwise.

    Attributes:
        retries: how often it is tried again after a failure.
        retry_seconds: the first pause between two tries; each further one is twice as long.
        timeout_seconds: how long a try may take. Who watches the runner sees to that.
    """

    retries: int = 0
    retry_seconds: float = 1.0
    timeout_seconds: float = 600.0

    def of(self, task: Any) -> UndoPolicy:
        """The policy for that task."""
        retries = getattr(task, "revert_retries", None)
        timeout = getattr(task, "revert_timeout_seconds", None)
        return UndoPolicy(
            self.retries if retries is None else retries,
            self.retry_seconds,
            self.timeout_seconds if timeout is None else timeout,
        )

    def pause_seconds(self, failures: int, luck: float) -> float:
        """How long to wait after so many failures; `luck`, 0 to 1, keeps many undos from coming at once."""
        longest = min(_LONGEST_PAUSE_SECONDS, self.retry_seconds * 2.0 ** min(failures - 1, 30))
        return longest * (0.5 + luck / 2)


class UndoTries:
    """Tries undos until they succeed or have failed for good. Used from every worker of a run.

    Failures are counted in the store, over every runner that tries: one that is killed because the undo
    hangs has failed, one that dies otherwise has not.
    """

    def __init__(self, run: EngineRun, policy: UndoPolicy, suspend_requested: threading.Event) -> None:
        self._run = run
        self._policy = policy
        self._suspend_requested = suspend_requested

    def undo(self, task: CancelableTask, attempt: Callable[[], Any]) -> Any:
        """What `attempt` returns, in the first try in which it does not raise.

        Raises:
            HandedBack: suspended between two tries.
            UndoFailed: an earlier runner has used up all tries.
            Exception: of the last try.
        """
        policy = self._policy.of(task)
        while True:
            failures = self._failures(task, policy)
            try:
                with self._run.bodies.undoing(task.name, policy.timeout_seconds):
                    return attempt()
            except (ClaimLost, SecretMissing):
                raise  # neither comes back by itself
            except Exception:
                if failures >= policy.retries:
                    raise
                self._run.undo_failed(task.name)
            self._pause(policy.pause_seconds(failures + 1, random.random()))

    async def undo_in(
        self, loop: BodyLoop, task: CancelableTask, attempt: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        """As `undo`, of a coroutine: in its event loop."""
        policy = self._policy.of(task)
        while True:
            failures = self._failures(task, policy)
            try:
                with self._run.bodies.undoing(task.name, policy.timeout_seconds):
                    await attempt()
                    return
            except (ClaimLost, SecretMissing):
                raise
            except Exception:
                if failures >= policy.retries:
                    raise
                await loop.call(self._run.undo_failed, task.name)
            until = time.monotonic() + policy.pause_seconds(failures + 1, random.random())
            while self._run.lost is None and (left := until - time.monotonic()) > 0:
                if self._suspend_requested.is_set():
                    raise HandedBack
                await asyncio.sleep(min(left, _LOOK_SECONDS))

    def _failures(self, task: CancelableTask, policy: UndoPolicy) -> int:
        """How many tries have failed; UndoFailed when none is left."""
        failures, error = self._run.undo_failures(task.name)
        if failures > policy.retries:
            told = error or "it failed as often as it may"
            self._run.end_undo(task.name, told)
            raise UndoFailed(told)
        return failures

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._run.lost is None:
            left = until - time.monotonic()
            if left <= 0:
                return
            if self._suspend_requested.wait(min(left, _LOOK_SECONDS)):
                raise HandedBack
