"""A runner: a process that runs one job at a time, told by its parent which."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import Any

from ebbtide.conductor.capture import install
from ebbtide.conductor.channel import Channel, ChannelClosed
from ebbtide.conductor.execution import Execution
from ebbtide.conductor.options import RunOptions
from ebbtide.flows import Registry, load_flows
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.store import Store
from ebbtide.tasks.event import LOST
from ebbtide.tasks.wrapping import describe
from ebbtide.trees import become_subreaper, end_below

__all__ = ["serve"]

LOG = logging.getLogger(__name__)

_THREAD_SECONDS = 0.2


def serve(channel: Channel, options: RunOptions) -> None:
    """Obey the parent until it closes the channel.

    Messages from it: ``{"run": claim}``, ``{"cancel": {"job_id", "reason", "source"}}``,
    ``{"suspend": true}``, ``{"pause": epoch}``. To it: ``{"grace": seconds, "epoch": n}``, null once at rest,
    and ``{"undo": task, "within": seconds, "epoch": n}``, null once it has ended (see `Bodies`), maybe
    ``{"suspending": true, "epoch": n}`` once it has heard of that, ``{"lost": true, "epoch": n}`` when the
    run has lost its job while bodies are at work, then ``{"ended": job id, "epoch": n, "edge": name,
    "leaving": bool}``; or, as its last words, ``{"failing": why}``.

    The main thread listens, so that a cancel is heard whatever the tasks do; another drives the engine.
    """
    become_subreaper()
    install(outputs=True)
    logging.getLogger().setLevel(options.log_level.upper())
    with Store(options.database, wait_seconds=options.wait_seconds) as store:
        _Runner(channel, store, load_flows(options.flow_modules), options).listen()


class _Runner:
    def __init__(self, channel: Channel, store: Store, registry: Registry, options: RunOptions) -> None:
        self._channel = channel
        self._store = store
        self._registry = registry
        self._options = options
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards the two fields below
        self._execution: Execution | None = None
        self._claim: Claim | None = None

    def listen(self) -> None:
        while True:
            try:
                message, _ = self._channel.receive()
            except ChannelClosed:
                # The parent is gone; the keeper ends this tree. What runs is taken up from the journal.
                os._exit(1)
            if "run" in message:
                self._start(Claim.from_dict(message["run"]))
                continue
            with self._lock:
                execution, claim = self._execution, self._claim
            if execution is None or claim is None:
                continue  # it ended while the message was on its way
            if "suspend" in message:
                execution.suspend()
                self._tell(claim, suspending=True)
            elif "pause" in message:
                if message["pause"] == claim.epoch:
                    execution.pause()
            elif message["cancel"]["job_id"] == claim.job_id:
                execution.event.set(message["cancel"]["reason"], message["cancel"]["source"])

    def _start(self, claim: Claim) -> None:
        execution = Execution(
            self._store,
            self._registry,
            claim,
            self._options,
            end_leftovers=end_below,
            tell=lambda grace: self._tell(claim, grace=grace),
            tell_undo=lambda task, seconds: self._tell(claim, undo=task, within=seconds),
        )
        execution.event.add_callback(lambda event: self._tell_lost(claim, event.source))
        with self._lock:
            self._execution, self._claim = execution, claim
        threading.Thread(
            target=self._drive, args=(execution, claim), name="ebbtide-driver", daemon=True
        ).start()

    def _tell_lost(self, claim: Claim, source: str) -> None:
        if source == LOST:
            self._tell(claim, lost=True)

    def _tell(self, claim: Claim, **facts: Any) -> None:
        # A task that forks by hand has a child which may return from its body as well: it speaks for nobody.
        if os.getpid() == self._pid:
            with contextlib.suppress(ChannelClosed):  # the main thread sees that, too, and ends this process
                self._channel.send(facts | {"epoch": claim.epoch})

    def _drive(self, execution: Execution, claim: Claim) -> None:
        try:
            edge = execution.run()
            with self._lock:
                self._execution = self._claim = None
            end_below()
            leaving = _has_leftover_threads()
            self._channel.send(
                {"ended": claim.job_id, "epoch": claim.epoch, "edge": edge, "leaving": leaving}
            )
            if leaving:
                os._exit(0)
        except ChannelClosed:
            os._exit(1)
        except BaseException as error:
            # A fault of ours or of the store: this process knows nothing for sure any more. Its end is
            # noticed, and the job taken up from what is stored; three times without progress park it.
            with execution.redactor.active():
                LOG.exception("job %s: its run failed", claim.job_id)
            logging.shutdown()
            with contextlib.suppress(ChannelClosed):
                self._channel.send({"failing": describe(error, execution.redactor.redact)})
            os._exit(70)


def _has_leftover_threads() -> bool:
    """Whether a thread that a task has started, or a body that was given up, goes on after its job.

    It cannot be ended alone, and would work on beside the next job: this process ends instead.
    """
    known = (threading.main_thread(), threading.current_thread())
    for thread in threading.enumerate():
        if thread not in known:
            thread.join(_THREAD_SECONDS)  # those of the pool are on their way out
            if thread.is_alive():
                return True
    return False
