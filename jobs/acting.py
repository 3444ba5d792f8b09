"""Acting: in whose name a poster works, whose jobs it sees, and which flows it posts."""

from __future__ import annotations

import copy
from typing import Self

from ebbtide.errors import FlowNotFound
from ebbtide.flows import FlowDefinition, Registry
from ebbtide.flows.published import PublishedFlow
from ebbtide.jobs.catalogue import Catalogue
from ebbtide.jobs.credentials import Credentials
from ebbtide.jobs.many import Many
from ebbtide.jobs.store import Store
from ebbtide.jobs.texts import MAX_WHO, checked_text, whoami
from ebbtide.jobs.views import Views

__all__ = ["Acting"]


class Acting:
    """What a poster knows of those for whom it works. Its fields without a value are the poster's."""

    catalogue: Catalogue
    credentials: Credentials
    _store: Store
    _views: Views
    _many: Many
    _who: str | None = None  # None: the user of this process
    _jobs_of: str | None = None  # None: everybody's

    def acting_for(self, who: str, *, jobs_of: str | None = None) -> Self:
        """This poster in somebody else's name: what it changes, the history says of `who`.

        Args:
            jobs_of: whose jobs are posted, and may be seen; to the result no other job exists. None: `who`
                posts, and sees everybody's.

        Both share their connections: close the first one alone, once nobody uses either any more.
        """
        other = copy.copy(self)
        other._who = checked_text(who, "who acts", MAX_WHO) or whoami()
        other._jobs_of = jobs_of
        other._views = Views(self._store, jobs_of)
        other._many = Many(self._store, jobs_of)
        return other

    def _actor(self) -> str:
        return self._who or whoami()

    def _checked_who(self, who: str | None) -> str:
        return (self._actor() if who is None else checked_text(who, "who asks", MAX_WHO)) or self._actor()

    def _definition(
        self, registry: Registry, flow: str, version: int | None
    ) -> FlowDefinition | PublishedFlow:
        """The flow as the registry has it, else as conductors have published it."""
        try:
            return registry.get(flow, version)
        except FlowNotFound as unknown_here:
            try:
                return self.catalogue.get(flow, version)
            except FlowNotFound as unknown_anywhere:
                known = sorted({*unknown_here.known, *unknown_anywhere.known})
                raise FlowNotFound(unknown_here.flow, known) from unknown_here
