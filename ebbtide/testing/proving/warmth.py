"""What every holder would have to load and compile is loaded and compiled once, before they are forked."""

from __future__ import annotations

from pathlib import Path

from taskflow.patterns import linear_flow

from ebbtide.conductor.undoing import UndoPolicy
from ebbtide.flows import Registry
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.ledger import Ledger
from ebbtide.jobs.store import Store
from ebbtide.tasks import CancelableTask
from ebbtide.testing.proving.account import read_account
from ebbtide.testing.proving.effects import EffectLog
from ebbtide.testing.proving.holder import Order, Subject, hold_job, post
from ebbtide.testing.proving.plans import LAST_COMMIT, Act, Deed, Run

__all__ = ["warm_up"]


class _Step(CancelableTask):
    """Does nothing, and its undo neither."""

    def execute(self) -> None:
        self.checkpoint({})


def warm_up(store: Store, folder: Path) -> None:
    """Run jobs that do nothing, one of them to its end and one back, here, and remove them.

    All threads of it have ended when this returns, and no connection of the store is open.
    """
    registry = Registry()
    registry.flow("warm-up")(_build)
    subject = Subject(registry, registry.get("warm-up"), {}, threads=2, undo=UndoPolicy())
    log = EffectLog(folder / "warm-up")
    gone = Claims(store, "warm-up", name="warm-up", lease_seconds=60.0)
    back = Run((Act(LAST_COMMIT, Deed.CANCEL),))
    for run in (Run(), back, Run(cancel_first=True)):
        job = post(subject, store)
        if not run.cancel_first:
            gone.register(flows=[subject.definition.key], runners=1, isolation="thread")
            gone.claim([subject.definition.key])
        order = Order(job, folder / "warm-up", run, gone=gone.owner)
        hold_job(subject, store, order, log, lambda **facts: None, sleep=lambda: None)
        read_account(store, job)
        Ledger(store).delete(job, who=gone.owner)
    store.close()


def _build() -> linear_flow.Flow:
    return linear_flow.Flow("warm-up").add(_Step(name="one"), _Step(name="two"))
