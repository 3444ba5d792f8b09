"""No signal ever rings: everything still happens, by the sweep. P3, P5 and P10."""

import pytest

from ebbtide.conductor import service
from ebbtide.jobs.signals import Signal


class Dead(Signal):
    """Rings never."""

    def ring(self, job_id):
        """Tell nobody."""

    def changed(self):
        return False


@pytest.fixture
def dead_signal(monkeypatch):
    monkeypatch.setattr(service, "open_signal", lambda store, settings: Dead())


def test_a_job_is_found_and_a_cancel_is_forwarded_although_nothing_rings(bench, dead_signal):
    bench.start(sweep_seconds=0.2)

    job = bench.post("linear", {"b": ["hold"]})
    bench.reached("execute b")
    bench.cancel(job)
    bench.forwarded(job)

    ended = bench.cancelled_and_undone(job, bench.shapes["linear"])
    assert ended.cancel.delivered_at is not None
    assert bench.words("begin") == ["a", "b"]
