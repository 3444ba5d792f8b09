"""The thread that stores chunks and progress while a run lasts ends with the run, whenever that comes."""

import threading
import types
import warnings

from ebbtide.tasks.event import CancelEvent
from ebbtide.tasks.run import JobInfo

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.bodies import Bodies
    from ebbtide.conductor.jobrun import JobRun

SECONDS = 10.0


class ClearedLate(threading.Event):
    """Whoever clears it first does so just after it was set once more."""

    def __init__(self):
        super().__init__()
        self.clearing = threading.Event()
        self.set_again = threading.Event()

    def set(self):
        super().set()
        if self.clearing.is_set():
            self.set_again.set()

    def clear(self):
        self.clearing.set()
        assert self.set_again.wait(SECONDS)
        super().clear()


def test_a_run_that_ends_just_when_its_flusher_goes_on_ends():
    journal = types.SimpleNamespace(lost=None, logs=types.SimpleNamespace(), flush=lambda: None)
    event = CancelEvent()
    info = JobInfo("1", "flow", 1, 1, {})
    run = JobRun(info, event, journal, Bodies(event, 1.0, lambda grace: None), 1)
    hurry = run._hurry = ClearedLate()
    run.start_flushing()
    assert hurry.clearing.wait(SECONDS)
    ending = threading.Thread(target=run.end)

    ending.start()
    ending.join(SECONDS)

    ended, journal.lost = not ending.is_alive(), "the test is over"
    ending.join()
    assert ended
