"""Programs that jobs run, in a real conductor: cancelled, and the machine looked at from outside.

Promises: P5.
"""

from pathlib import Path

import pytest

from tests.services.stubborn import STUBBORN


def in_the_process_table(words):
    """The processes, zombies too, on whose command line these words are."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if words.encode() in line:
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize("how", ["cancelled", "returned"])
def test_nothing_of_a_program_that_ignores_sigterm_is_left(stage, tmp_path, how):
    """Neither its child in another session, nor the grandchild that its parent has left."""
    output = tmp_path / "made"
    mark = f"{tmp_path} {how}"
    script = STUBBORN.replace("signal.signal(15", f"mark = '{mark}'; signal.signal(15")
    script += f"open({str(output)!r}, 'w')\n"
    if how == "cancelled":
        script += "time.sleep(600)\n"
    stage.conductor(runners=1)
    job = stage.poster.post("program", {"script": script, "output": str(output)})
    stage.wait_until(lambda: len(told(stage, job)) == 3, "it to have started all")

    if how == "cancelled":
        stage.wait_until(output.exists, "its output")
        assert len(in_the_process_table(mark)) == 3
        stage.poster.cancel(job.id)
    ended = stage.ended(job)

    assert in_the_process_table(mark) == []
    assert [pid for pid in told(stage, job) if Path("/proc", pid).exists()] == []
    assert ended.state == ("cancelled" if how == "cancelled" else "completed")
    assert output.exists() == (how == "returned")


def told(stage, job):
    """The processes that it has told of."""
    lines = [line.text.split() for line in stage.poster.logs(job.id)]
    return [words[1] for words in lines if words[0] in ("orphan", "child", "self")]
