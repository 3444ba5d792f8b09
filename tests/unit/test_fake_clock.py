"""`ebbtide.testing.FakeClock`: time stands still while somebody works, and jumps when everybody waits."""

import math
import threading

import pytest

from ebbtide.jobs import clock as product_clock
from ebbtide.tasks import Cancelled, task
from ebbtide.testing import FakeClock, TaskRun, WaitsForEver, run_task

YEAR = 365 * 86400.0


@task
def nap(self, seconds):
    self.sleep(seconds)
    return self.cancel.wait(seconds)


def test_a_sleep_takes_its_time_by_the_clock_alone():
    run = run_task(nap(), {"seconds": YEAR})

    assert run.result is False
    assert run.clock.elapsed == 2 * YEAR


def test_a_cancel_that_comes_in_time_cuts_a_sleep_short():
    run = TaskRun(nap(), {"seconds": 100.0})
    run.clock.call_later(2.5, run.cancel)

    run.execute()

    assert isinstance(run.error, Cancelled)
    assert run.clock.elapsed == 2.5


def test_a_shield_waits_the_whole_time():
    @task
    def shielded(self):
        with self.shield():
            self.sleep(10)
        return "done"

    run = TaskRun(shielded())
    run.clock.call_later(2, run.cancel)
    run.execute()

    assert (run.result, run.cancelled, run.clock.elapsed) == ("done", True, 10)


def test_a_wait_without_end_is_an_error_and_no_hang():
    run = run_task(nap(), {"seconds": math.inf})

    with pytest.raises(WaitsForEver):
        _ = run.result


def test_the_moment_is_read_from_the_clock_as_it_passes():
    clock = FakeClock(now=1000.0)
    clock.advance(5)

    assert (clock.now, clock.elapsed) == (1005.0, 5)


def test_what_is_to_happen_happens_in_its_order_and_at_its_time():
    clock = FakeClock()
    told: list[tuple[str, float]] = []
    for name, seconds in (("late", 3.0), ("early", 1.0), ("second", 1.0), ("never", 9.0)):
        clock.call_later(seconds, lambda name=name: told.append((name, clock.elapsed)))

    clock.advance(5)

    assert told == [("early", 1.0), ("second", 1.0), ("late", 3.0)]
    assert clock.elapsed == 5


def test_setting_the_clock_of_the_machine_is_not_waiting():
    clock = FakeClock()

    clock.now += 3600

    assert (clock.elapsed, clock.boot) == (0, 5_000.0)


def test_those_who_run_side_by_side_wait_together():
    clock = FakeClock()
    told: list[tuple[str, float]] = []

    def steps(name: str, *pauses: float) -> str:
        event = clock.event()
        for seconds in pauses:
            event.wait(seconds)
            told.append((name, clock.elapsed))
        return name

    names = clock.run(lambda: steps("a", 1, 1, 1), lambda: steps("b", 1.5, 3))

    assert names == ["a", "b"]
    assert told == [("a", 1), ("b", 1.5), ("a", 2), ("a", 3), ("b", 4.5)]


def test_time_stands_still_while_one_of_them_works():
    clock = FakeClock()
    event = clock.event()
    waiting = threading.Event()
    seen: list[float] = []

    def waits():
        waiting.set()
        return event.wait(10)

    def works() -> None:
        waiting.wait()
        for _ in range(1000):
            seen.append(clock.elapsed)
        event.set("enough")

    heard, _ = clock.run(waits, works)

    assert heard
    assert set(seen) == {0.0}
    assert clock.elapsed == 0


def test_an_event_that_is_set_wakes_its_children_too():
    clock = FakeClock()
    event = clock.event()
    child = event.child()
    clock.call_later(3, lambda: event.set("enough"))

    assert child.wait(10)
    assert clock.elapsed == 3


def test_what_one_of_them_raises_is_raised_and_holds_nobody_up():
    clock = FakeClock()

    def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        clock.run(lambda: clock.event().wait(5), fails)

    assert clock.elapsed == 5


def test_while_it_is_installed_the_product_of_this_process_goes_by_it():
    real = product_clock.wall
    clock = FakeClock(now=1000.0)

    with clock.installed():
        clock.advance(5)
        assert (product_clock.wall(), product_clock.boot_seconds()) == (1005.0, 5_005.0)
        assert product_clock.boot_id() == clock.boot_id

    assert product_clock.wall is real
