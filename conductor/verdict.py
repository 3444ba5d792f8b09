"""What becomes of a job whose attempt has failed: it ends so, is tried again, or holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ebbtide.conductor.outcome import Outcome
from ebbtide.flows.policies import HOLD, Policies

__all__ = ["Verdict"]

# The name by which a policy has a job tried again that was out of time as a whole.
_OUT_OF_TIME = "OutOfTime"


@dataclass(frozen=True)
class Verdict:
    """The policies of a job, for one attempt.

    Args:
        retries: how many attempts were made before this one, since it was posted or retried by hand.
    """

    policies: Policies
    retries: int

    def holds(self, names: Sequence[str]) -> bool:
        """Whether a failure of that class leaves all as it is; a failure that is tried again is undone."""
        return self.policies.on_failure == HOLD and self._pause_seconds(names) is None

    def judged(self, outcome: Outcome, names_of: Callable[[str], Sequence[str]]) -> Outcome:
        """The outcome, or, of a failure, that there is another attempt.

        Args:
            names_of: the names of the classes of what a task has raised.
        """
        if outcome.edge != "failed":
            return outcome
        if outcome.limit is not None:
            listed = _OUT_OF_TIME in self.policies.retry.errors
            pause = self._pause_seconds([_OUT_OF_TIME]) if listed else None
        else:
            pause = self._pause_seconds(names_of(outcome.error_task) if outcome.error_task else [])
        return outcome if pause is None else replace(outcome, edge="retry_scheduled", pause_seconds=pause)

    def _pause_seconds(self, names: Sequence[str]) -> float | None:
        return self.policies.retry.pause_seconds(self.retries + 1, names, random.random())
