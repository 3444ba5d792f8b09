"""Runs cases: a job and its holders, one after the other, each of them forked; and gathers the evidence."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ebbtide.jobs.store import Store
from ebbtide.testing.proving.account import Account, read_account
from ebbtide.testing.proving.checks import Evidence, broken_promises, stories
from ebbtide.testing.proving.effects import read_effects
from ebbtide.testing.proving.holder import Order, Subject, hold, post
from ebbtide.testing.proving.holders import Heard, Holder
from ebbtide.testing.proving.plans import Deed, Plan
from ebbtide.testing.proving.verdicts import Seen
from ebbtide.testing.proving.world import World
from ebbtide.trees import end_below

__all__ = ["Bench", "Result"]

_AT_REST = ("completed", "failed", "cancelled", "parked")
# Far more than undos are tried: whoever is ended so often never parks its job.
_MOST_ENDED = 100
# Of what a holder may take: so long one that is to sleep waits for others, and both end in time.
_REST_SHARE = 0.25


@dataclass(frozen=True)
class Result:
    """What a case came to.

    Attributes:
        reached: whether every deed of the plan was done.
        heard: what each holder told.
        broken: promises that did not hold.
        seen: what the undo has left; None: nothing was undone.
        changed: what a job that completed has changed, where that was asked for.
        left: the differences that nothing could put back.
    """

    plan: Plan
    reached: bool
    heard: list[Heard]
    account: Account
    broken: list[str]
    seen: Seen | None
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def stuck(self) -> bool:
        """The job did not come to rest: whoever comes next would take it up."""
        return self.account.state not in _AT_REST

    @property
    def kills(self) -> int:
        return sum(each.killed for each in self.heard)

    @property
    def ended(self) -> int:
        """How many holders were ended, since an undo hung."""
        return sum(each.ended for each in self.heard)


class Bench:
    """A flow, a store and a world.

    Args:
        store: no connection of it is open here while a holder lives.
        folder: an empty one, for the effect log.
        before: for each task those that have to be done before it.
        seconds: how long a holder may take.
    """

    def __init__(
        self,
        subject: Subject,
        store: Store,
        world: World,
        folder: Path,
        *,
        before: Mapping[str, set[str]],
        seconds: float,
    ) -> None:
        self._subject = subject
        self._store = store
        self._world = world
        self._log = folder / "effects"
        self._before = before
        self._seconds = seconds

    def run(self, plan: Plan, *, look: bool = False) -> Result:
        """Run one case, look at all that it has left, and put back what can be.

        Args:
            look: whether to look at what it has changed, too, should it complete.
        """
        self._log.unlink(missing_ok=True)
        job = post(self._subject, self._store)
        rest = self._seconds * _REST_SHARE
        order = Order(job, self._log, plan.runs[0], plan.threads, rest_seconds=rest)
        self._store.close()
        heard: list[Heard] = []
        stale: Account | None = None
        asleep: Holder | None = None
        try:
            for run in plan.runs:
                holder = self._held(dataclasses.replace(order, run=run))
                heard.append(holder.heard)
                order = dataclasses.replace(order, gone=heard[-1].owner)
                if Deed.SLEEP in heard[-1].deeds:
                    asleep = holder
                elif not heard[-1].killed:
                    break
            if asleep is not None:
                stale = self._account(order.job)
                asleep.wake(self._seconds)
        finally:
            if asleep is not None:
                asleep.end()
            end_below()
        result = self._judged(plan, heard, self._account(order.job), stale)
        completed = result.account.state == "completed"
        changed = self._world.differences(order.job) if look and completed else []
        return dataclasses.replace(result, changed=changed, left=self._world.settle(order.job))

    def _held(self, order: Order) -> Holder:
        """Have it held until that ends, or sleeps. Who is ended since an undo hangs has a successor."""
        holder = self._fork(order)
        heard = holder.wait()
        while heard.hung and heard.ended < _MOST_ENDED:
            run = dataclasses.replace(order.run, cancel_first=False)
            order = dataclasses.replace(
                order, run=run, gone=heard.owner, hung=heard.hung, passed=heard.points
            )
            holder = self._fork(order)
            holder.wait().follow(heard)
            heard = holder.heard
        return holder

    def _fork(self, order: Order) -> Holder:
        return Holder(lambda *lines: hold(self._subject, self._store, order, *lines), self._seconds)

    def _account(self, job: str) -> Account:
        account = read_account(self._store, job)
        self._store.close()
        return account

    def _judged(self, plan: Plan, heard: list[Heard], account: Account, stale: Account | None) -> Result:
        evidence = Evidence(
            effects=read_effects(self._log),
            account=account,
            before=self._before,
            answers=[answer for each in heard for answer in each.answers],
            unanswered=any(each.asked > len(each.answers) for each in heard),
            kills=sum(each.killed + each.ended for each in heard),
            hung=any(each.ended for each in heard),
            stale=stale,
        )
        # A run that the flow itself has ended is half a run: of that nothing was promised here.
        found = [*filter(None, map(_odd_end, heard))] or broken_promises(evidence)
        return Result(
            plan,
            reached=_reached(plan, heard),
            heard=heard,
            account=account,
            broken=[f"{words} ({plan})" for words in found],
            seen=self._seen(plan, evidence),
        )

    def _seen(self, plan: Plan, evidence: Evidence) -> Seen | None:
        """What is to be seen of its undo; None: it completed, or did not come to rest."""
        told = stories(evidence.effects)
        account = evidence.account
        failed = [row for row in account.tasks if row["undo_error"]]
        if account.state == "parked" and failed:
            task, error = failed[0]["task"], failed[0]["undo_error"]
            return Seen.of(str(plan), told, (), task, error, hung=evidence.hung)
        if account.state not in ("cancelled", "failed"):
            return None
        return Seen.of(str(plan), told, self._world.differences(account.job["id"]), None, "")


def _reached(plan: Plan, heard: list[Heard]) -> bool:
    """Whether every holder came to where something was to be done to it."""
    return len(heard) == len(plan.runs) and all(
        act.standing or (act.address in each.points and act.deed in each.deeds)
        for run, each in zip(plan.runs, heard, strict=True)
        for act in run.acts
    )


def _odd_end(heard: Heard) -> str | None:
    """How a holder ended that neither its deed nor its work has ended."""
    if heard.late or heard.hung:
        return "P10: a holder did not end in time"
    if heard.failure is not None:
        return f"a holder broke down: {heard.failure}"
    status = heard.status or 0
    if heard.killed or status == 0:
        return None
    if os.WIFSIGNALED(status):
        return f"a holder died by {signal.Signals(os.WTERMSIG(status)).name}, not of this proof"
    return f"a holder ended by itself with status {os.waitstatus_to_exitcode(status)}"
