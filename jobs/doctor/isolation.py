"""Whether a conductor could end here what its jobs have started."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

from ebbtide.config import Settings
from ebbtide.jobs.doctor.finding import Finding, fine, note, wrong

__all__ = ["look"]

_SUBJECT = "isolation"


def look(settings: Settings) -> Iterator[Finding]:
    """What the option `isolation` wants of this machine."""
    if settings.isolation == "thread":
        told = "jobs run in the conductor's own process: a task that never looks at its cancel is not ended"
        yield note(_SUBJECT, told, "set isolation to process unless the conductor is part of another program")
    elif not sys.platform.startswith("linux"):
        told = f"runner processes want Linux, and this is {sys.platform}"
        yield wrong(_SUBJECT, told, "run conductors on Linux, or set isolation to thread")
    elif not os.path.exists(f"/proc/self/task/{threading.get_native_id()}/children"):
        told = "/proc does not tell who is below a process: what a task starts could not be found and ended"
        yield wrong(_SUBJECT, told, "mount /proc, on a kernel with CONFIG_PROC_CHILDREN")
    else:
        yield fine(_SUBJECT, "each job runs in a process of its own")
