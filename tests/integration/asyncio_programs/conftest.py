"""Flows of coroutines, and a registry of their own for each test."""

import asyncio
import warnings

import pytest
from taskflow.patterns import linear_flow

import ebbtide.flows.registry
from ebbtide.flows import Registry, flow, load_flows
from ebbtide.tasks import AsyncTask, StreamTask

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    import ebbtide.conductor  # before the tests beside this file do so


class Talks(StreamTask):
    """Sends its words."""

    async def execute(self, words):
        for word in words:
            yield word


class Waits(AsyncTask):
    """Waits to be let on; its undo is noted."""

    log: list[object]
    let_on: bool

    async def execute(self):
        self.log.append(("begins", self.interrupted))
        try:
            while not self.let_on:
                await asyncio.sleep(0.005)
        finally:
            self.log.append("left")
        return "waited"

    async def revert(self, result):
        self.log.append("undone")


@pytest.fixture
def flows(monkeypatch):
    """Factories by name, registered for this test alone."""
    load_flows()  # a module registers its flows once, when it is imported: not here, to go with the test
    monkeypatch.setattr(ebbtide.flows.registry, "registered", Registry())
    Waits.log, Waits.let_on = [], False

    @flow("talks")  # type: ignore[untyped-decorator]  # without the product it knows no types
    def talks(words: list[str]):
        return linear_flow.Flow("talks").add(Talks(name="talks", provides="said"))

    @flow("waits")
    def waits():
        return linear_flow.Flow("waits").add(Waits(name="waits", provides="waited"))

    return {"talks": talks, "waits": waits}


@pytest.fixture
def waiting():
    return Waits
