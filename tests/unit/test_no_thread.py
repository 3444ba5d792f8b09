"""A run for which the system has no thread to give in one moment goes on in the next."""

import threading
import types
import warnings

import pytest

from ebbtide.tasks.event import CancelEvent
from ebbtide.tasks.run import JobInfo

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.bodies import Bodies
    from ebbtide.conductor.jobrun import JobRun
    from ebbtide.conductor.loop import RunLoop

SECONDS = 10.0


def test_a_coroutine_runs_although_there_was_no_thread_for_the_one_before():
    """The undo of what could not begin is the next one: it would wait for good in a loop that nobody runs."""
    loop = RunLoop(CancelEvent())

    async def body() -> str:
        return "done"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        with pytest.raises(RuntimeError, match="thread"):
            loop.submit(lambda _: body())
    ended = loop.submit(lambda _: body())

    try:
        assert ended.result(SECONDS) == "done"
    finally:
        loop.close()


def test_progress_fails_no_task_and_no_run_for_want_of_a_thread():
    stored = threading.Event()
    journal = types.SimpleNamespace(
        lost=None, logs=types.SimpleNamespace(), report=lambda *_: None, commit=stored.set
    )
    event = CancelEvent()
    run = JobRun(JobInfo("1", "flow"), event, journal, Bodies(event, 1.0, lambda grace: None), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        run.report("a", 0.5, "half of it")
    run.report("a", 0.6, "more of it")

    assert stored.wait(SECONDS)
    run.end()


def _refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
