"""Clients: each does what the schedule says in a thread of its own, and what it is told is recorded."""

import contextlib
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ebbtide.config import Settings
from ebbtide.flows import Registry
from ebbtide.jobs import Job, Poster
from tests.chaos.history import Recorder
from tests.chaos.schedule import NAMES, Action

# Of flows_for_chaos, which is imported nowhere here: it would register its flow.
FLOW, DISK, MADE = "pieces", "disk", "made"
_FOLLOWED_SECONDS = 1.0
_BEGINNING_SECONDS = 10.0


class Client:
    """Makes calls and has them recorded. To be used by one thread.

    Args:
        folder: of the jobs.
        settings: how this client reaches the store.
    """

    def __init__(
        self, name: str, folder: Path, settings: Settings, registry: Registry, recorder: Recorder
    ) -> None:
        self._name = name
        self._folder = folder
        self._poster = Poster(settings=settings, registry=registry)
        self._recorder = recorder
        self._ids: dict[str, str] = {}  # of posts, by word
        self._numbers = 0
        self._clock = threading.Event()  # never set
        self.accepted = 0  # cancels

    def close(self) -> None:
        self._poster.close()

    def do(self, action: Action) -> None:
        """Do what an action says. About a post that is not known to be stored nothing can be done."""
        if action.op == "post":
            posted = self.post(action.word, **action.args)
            if posted is not None and action.once_begun:
                self._await_beginning(posted)
            if posted is not None and action.cancel_after is not None:
                self._clock.wait(action.cancel_after)
                self.cancel(posted)
            return
        job = self.find(action.word)
        if job is not None:
            getattr(self, action.op)(job)

    def post(self, word: str, steps: list[str], order: str = "linear", rounds: int = 1) -> str | None:
        """The id of the job, if the answer was one."""
        params = {"folder": str(self._folder), "steps": steps, "order": order, "rounds": rounds}

        def ask() -> dict[str, Any]:
            return {"job": self._poster.post(FLOW, params, labels={"word": word}).id}

        asked = {"word": word, "steps": steps, "order": order, "rounds": rounds}
        answer = self._recorder.ask(self._name, "post", asked, ask)
        return None if answer is None else str(answer["job"])

    def find(self, word: str) -> str | None:
        """The id of the job that was posted under that word."""

        def ask() -> dict[str, Any]:
            found = self._poster.list(labels={"word": word})
            return {"job": found[0].id if found else None}

        if word not in self._ids:
            answer = self._recorder.ask(self._name, "find", {"word": word}, ask)
            if answer is not None and answer["job"] is not None:
                self._ids[word] = answer["job"]
        return self._ids.get(word)

    def cancel(self, job: str) -> dict[str, Any] | None:
        """What was answered, if that was ok. Each request has a reason of its own."""
        self._numbers += 1
        reason = f"request {self._numbers} of {self._name}"

        def ask() -> dict[str, Any]:
            return {"answer": self._poster.cancel(job, reason).answer}

        answer = self._recorder.ask(self._name, "cancel", {"job": job, "reason": reason}, ask)
        self.accepted += answer == {"answer": "accepted"}
        return answer

    def retry(self, job: str) -> None:
        self._recorder.ask(self._name, "retry", {"job": job}, lambda: _seen(self._poster.retry(job)))

    def unpark(self, job: str) -> None:
        """Repair what its undo may have stumbled over, and let it go on."""
        (self._folder / f"repaired-{job}").touch()
        self._recorder.ask(self._name, "unpark", {"job": job}, lambda: _seen(self._poster.unpark(job)))

    def look(self, job: str) -> dict[str, Any] | None:
        """The job as it stands, and how much of its history there is."""

        def ask() -> dict[str, Any]:
            seen = _seen(self._poster.show(job))
            # Read after the job: it may have grown since, and never be shorter.
            return seen | {"entries": len(self._poster.entries(job))}

        return self._recorder.ask(self._name, "look", {"job": job}, ask)

    def follow(self, job: str) -> None:
        """Watch its history grow, for a moment."""
        numbers: list[int] = []

        def ask() -> dict[str, Any]:
            with contextlib.suppress(TimeoutError):  # the job goes on
                numbers.extend(entry.number for entry in self._poster.follow(job, timeout=_FOLLOWED_SECONDS))
            return {"numbers": numbers}

        self._recorder.ask(self._name, "follow", {"job": job}, ask)

    def _await_beginning(self, job: str) -> None:
        """Wait for the first file that its tasks make, for as long as that is worth while."""
        first = self._folder / DISK / MADE / f"{job}.{NAMES[0]}"
        give_up = time.monotonic() + _BEGINNING_SECONDS
        while not first.exists() and time.monotonic() < give_up:
            self._clock.wait(0.01)


class Clients:
    """Several clients at work, each in a thread, until `end`."""

    def __init__(self, clients: list[Client], actions: list[Iterable[Action]]) -> None:
        self._clients = clients
        self._stopped = threading.Event()
        self._raised: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=work) for work in zip(clients, actions, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Returns once all have got their last answers. Raises what a client should not have met."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()
        if self._raised:
            raise self._raised[0]

    def _run(self, client: Client, actions: Iterable[Action]) -> None:
        try:
            for action in actions:
                if self._stopped.wait(action.pause):
                    return
                client.do(action)
        except BaseException as error:  # noqa: BLE001  # `end` raises it
            self._raised.append(error)


def _seen(job: Job) -> dict[str, Any]:
    return {"state": str(job.state), "attempt": job.attempt}
