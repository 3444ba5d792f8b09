"""The clocks. Called as `clock.wall()`, so that a test can put another one in their place here.

Wall time is shown to people and says when a job is due. A lease is counted in seconds since boot: that clock
goes on while the machine sleeps and is never set. Its values compare only under the same boot id.
"""

import time
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def wall() -> float:
    """Unix seconds. May jump when somebody sets the clock."""
    return time.time()


def boot_seconds() -> float:
    """Seconds since this machine booted, sleep included. The same in all its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@cache
def boot_id() -> str:
    """Twelve hex digits that are new with each boot of this machine."""
    return _BOOT_ID.read_text(encoding="ascii").strip().replace("-", "")[:12]
