"""The clocks that leases and histories rest on."""

import time

from ebbtide.jobs import clock


def test_boot_seconds_never_run_backwards_and_are_those_of_the_whole_machine() -> None:
    before = clock.boot_seconds()

    inside = time.clock_gettime(time.CLOCK_BOOTTIME)
    after = clock.boot_seconds()

    assert before <= inside <= after


def test_the_boot_id_is_short_and_stays_the_same() -> None:
    first = clock.boot_id()

    second = clock.boot_id()

    assert first == second
    assert len(first) == 12
    assert int(first, 16) >= 0


def test_wall_time_is_unix_seconds() -> None:
    before = time.time()

    now = clock.wall()

    assert before <= now <= time.time()
