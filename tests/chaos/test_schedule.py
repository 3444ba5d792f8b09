"""The schedule is a function of the seed; what a failure tells is enough to run it again and to judge it."""

from itertools import islice

import pytest

from tests.chaos import schedule
from tests.chaos.report import write_part
from tests.planted import planted

SEED = 7


@pytest.mark.parametrize("drawn", [schedule.actions, schedule.cancels, schedule.kills])
def test_one_seed_is_one_schedule(drawn):
    first = list(islice(drawn(SEED), 300))

    assert list(islice(drawn(SEED), 300)) == first
    assert list(islice(drawn(SEED + 1), 300)) != first


@pytest.mark.parametrize(
    "faults",
    [schedule.faults("sqlite", 7.0), schedule.faults("postgresql", 7.0), schedule.faults_of_network(7.0)],
    ids=["sqlite", "postgresql", "network"],
)
def test_every_fault_comes_before_any_comes_again(faults):
    coming = schedule.events(SEED, faults)

    bags = [[(event.kind, event.what) for event in islice(coming, len(faults))] for _ in range(2)]

    wanted = sorted((fault.kind, fault.what) for fault in faults)
    assert [sorted(bag) for bag in bags] == [wanted, wanted]
    assert bags[0] != bags[1]


def test_clients_act_on_what_was_posted_before():
    posted = set()
    for action in islice(schedule.actions(SEED), 300):
        if action.op == "post":
            posted.add(action.word)
        assert action.word in posted


@pytest.mark.sqlite_only("the store plays no part in it")
def test_a_failure_tells_the_promise_the_job_the_files_and_the_command(chaos, disk, seed, again):
    client = chaos.client("client")
    job = client.post("post 1", ["a"])
    with planted("cancel_only_signalled"):
        client.cancel(job)

    with pytest.raises(pytest.fail.Exception) as failure:
        chaos.judge(again)

    told = str(failure.value)
    assert f"P3 is broken: job {job}: accepted and stored 0 times" in told
    assert "client post {'word': 'post 1'" in told
    assert "client cancel {'job': " in told
    assert "name='posted'" in told
    assert f"EBBTIDE_TEST_SEED={seed} " in told
    assert "chaos/test_schedule.py::test_a_failure_tells" in told
    assert str(chaos.folder) in told
    assert "post 1" in (chaos.folder / "jobs.txt").read_text()
    assert "posted" in (chaos.folder / "job_entries.txt").read_text()
    assert "invoke" in (chaos.folder / "history").read_text()


def test_a_part_of_the_report_takes_the_place_of_its_older_self_and_of_no_other(tmp_path):
    page = tmp_path / "report.md"
    for name, text in (("one", "first\n"), ("two", "other\n"), ("one", "second \\1\n")):
        write_part(page, name, text)

    end = "<!-- end of part -->"
    assert page.read_text() == (
        f"<!-- part: one -->\nsecond \\1\n{end}\n\n<!-- part: two -->\nother\n{end}\n"
    )
