"""A conductor with nothing to do sleeps until the kernel tells it of something, or its sweep is due."""

import threading

from ebbtide.conductor import Conductor
from ebbtide.conductor.threads import ThreadRunners
from ebbtide.config import Settings
from ebbtide.flows import load_flows
from ebbtide.jobs.claims import Claims


def test_an_idle_conductor_wakes_up_a_few_times_between_two_sweeps(database, monkeypatch):
    looks: list[int] = []  # how often it woke up, from one sweep to the next
    enough = threading.Event()

    def poll(self, *args, original=ThreadRunners.poll):
        if looks:
            looks[-1] += 1
        return original(self, *args)

    def requests(self, original=Claims.requests):
        looks.append(0)
        if len(looks) > 5:
            enough.set()
        return original(self)

    monkeypatch.setattr(ThreadRunners, "poll", poll)
    monkeypatch.setattr(Claims, "requests", requests)
    settings = Settings(database=database, isolation="thread", sweep_seconds=0.5)
    conductor = Conductor(settings, registry=load_flows(["ebbtide.flows.file_processing"]))

    conductor.start()
    try:
        assert enough.wait(50)
    finally:
        conductor.stop()
        conductor.wait()

    # Asked every 15 ms it would be 33. The first ones may come in quick succession, while it registers.
    assert max(looks[2:5]) <= 8
