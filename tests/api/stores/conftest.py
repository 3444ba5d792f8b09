"""The API, and somebody who asks it, on each kind of store."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ebbtide.flows import FlowDefinition, Registry
from ebbtide.jobs import Poster
from ebbtide.jobs.catalogue import Catalogue
from ebbtide.jobs.store import Store
from tests.api.flows_of_the_api import add_two


@pytest.fixture
def poster(prepared: str) -> Iterator[Poster]:
    """The poster of an API server: it knows no flow but the one that a conductor has published."""
    with Poster(prepared, registry=Registry()) as opened, Store(prepared) as store:
        Catalogue(store).publish([FlowDefinition.of("add", add_two, returns="total")])
        yield opened


@pytest.fixture
def begun(post: Callable[..., str], ask: Callable[..., Any], by_hand: Any) -> Callable[..., str]:
    """Post a job of ann's of which something has begun; returns its id."""

    def call(state: str = "running", **wishes: Any) -> str:
        job = post(**wishes)
        columns = {"state": state, "begun": 1, "epoch": 1}
        if state == "completed":
            columns["ended_at"] = 9.0
        told = ", ".join(f"{name} = ?" for name in columns)
        ask(f"UPDATE jobs SET {told} WHERE id = ? RETURNING id", *columns.values(), job)
        by_hand.changed(job, 1, columns)
        return job

    return call
