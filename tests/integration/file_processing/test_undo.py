"""Cancelled anywhere, failed anywhere, dead anywhere: the destination is as it was, or as it should be."""

import fcntl
import os

import pytest

from ebbtide.tasks import CancelEvent, Cancelled
from ebbtide.tasks.wrapping import TaskExited
from tests.services.deaths import Deaths


class CancelAt(CancelEvent):
    """Sets itself when a task looks at it for the n-th time; 0: never."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self._look = look
        self.looks = 0

    @property
    def requested(self) -> bool:
        if not self.shielded:
            self.looks += 1
            if self.looks == self._look:
                self.set(f"at look {self.looks}")
        return super().requested


class CancelOnWait(CancelEvent):
    """Sets itself when a task begins to wait."""

    def wait(self, seconds: float) -> bool:
        self.set("while it waited")
        return super().wait(seconds)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """What these tests arrange is the end of a process, not of the power; the flow runs 2,000 times."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(params=["new", "empty", "published before", "foreign link"])
def place(request, work):
    """What the destination is before the job."""
    work.small_tree()
    if request.param == "empty":
        work.destination.mkdir()
    elif request.param == "published before":
        work.walk(work.watched("earlier")).forward()
        (work.destination / "note").write_text("mine")
    elif request.param == "foreign link":
        work.destination.mkdir()
        (work.destination / "current").symlink_to("/nowhere/at all")
    return work


def test_cancelled_at_any_checkpoint_the_destination_is_as_it_was(place, snapshot):
    before = snapshot(place.folder)
    event = CancelAt(0)
    place.walk(place.watched(event=event)).forward().back()
    assert snapshot(place.folder) == before
    assert event.looks > 50

    for look in range(1, event.looks + 1):
        walk = place.walk(place.watched(event=CancelAt(look)))
        with pytest.raises(Cancelled):
            walk.forward()
        walk.back()
        assert snapshot(place.folder) == before, f"after a cancel at look {look} of {event.looks}"


def _changes_of(monkeypatch, place) -> int:
    deaths = Deaths(0, after=False)
    with deaths.armed(monkeypatch):
        walk = place.walk().forward()
    walk.back()
    assert deaths.made > 20
    return deaths.made


@pytest.mark.parametrize("after", [False, True], ids=["before a change", "after a change"])
def test_dead_anywhere_and_then_undone_the_destination_is_as_it_was(place, snapshot, monkeypatch, after):
    before = snapshot(place.folder)
    for number in range(1, _changes_of(monkeypatch, place) + 1):
        run = place.watched()
        with Deaths(number, after=after).armed(monkeypatch), pytest.raises(TaskExited):
            place.walk(run).forward()
        place.walk(run).back()
        assert snapshot(place.folder) == before, f"after death at change {number}"


@pytest.mark.parametrize("after", [False, True], ids=["before a change", "after a change"])
def test_dead_anywhere_and_taken_up_again_the_result_is_the_same(place, snapshot, monkeypatch, after):
    before = snapshot(place.folder)
    walk = place.walk().forward()
    wanted = _without_times(snapshot(place.destination))
    walk.back()

    for number in range(1, _changes_of(monkeypatch, place) + 1):
        run = place.watched()
        with Deaths(number, after=after).armed(monkeypatch), pytest.raises(TaskExited):
            place.walk(run).forward()
        walk = place.walk(run).forward()
        assert _without_times(snapshot(place.destination)) == wanted, f"after death at change {number}"
        walk.back()
        assert snapshot(place.folder) == before, f"undone, after death at change {number}"


@pytest.mark.parametrize("after", [False, True], ids=["before a change", "after a change"])
def test_dead_anywhere_in_the_undo_the_next_one_finishes_it(place, snapshot, monkeypatch, after):
    before = snapshot(place.folder)
    number = 0
    while True:
        number += 1
        run = place.watched()
        walk = place.walk(run).forward()
        deaths = Deaths(number, after=after)
        with deaths.armed(monkeypatch):
            try:
                walk.back()
            except TaskExited:
                place.walk(run).back()
        assert snapshot(place.folder) == before, f"after death at change {number} of the undo"
        if deaths.made < number:
            break
    assert number > 10


def test_each_task_undoes_exactly_what_it_made(place, snapshot):
    walk = place.walk()
    for task in walk.tasks:
        before = snapshot(place.folder)
        walk.forward(task.name)
        if task.name == "publish":
            published = snapshot(place.destination / "versions" / "job-1")
            walk.back_one(task)
            assert snapshot(place.destination / ".staging-job" / "version") == published
        else:
            walk.back_one(task)
            assert snapshot(place.folder) == before, f"after the undo of {task.name}"
            walk.forward(task.name)


def test_undone_twice_is_undone_once(place, snapshot):
    before = snapshot(place.folder)
    run = place.watched()
    walk = place.walk(run).forward()
    begun, saved = dict(run._begun), dict(run._saved)

    walk.back()
    run._begun.update(begun)  # as if that had never been recorded
    run._saved.update(saved)
    walk.back()

    assert snapshot(place.folder) == before


def _without_times(found):
    return {name: entry if len(entry) < 4 else (*entry[:2], entry[3]) for name, entry in found.items()}


# Two jobs on one destination


def test_an_undo_leaves_a_version_current_that_was_published_on_top(work, snapshot):
    work.file("file")
    work.walk(work.watched("first")).forward()
    before = snapshot(work.destination)
    middle = work.walk(work.watched("middle")).forward()
    last = work.walk(work.watched("last")).forward()

    middle.back()
    assert os.readlink(work.destination / "current") == "versions/last-1"
    assert sorted(os.listdir(work.destination / "versions")) == [".last-1.previous", "first-1", "last-1"]

    last.back()
    assert snapshot(work.destination) == before


def test_two_versions_undone_in_the_order_they_were_published_leave_no_link_behind(work):
    work.file("file")
    below = work.walk(work.watched("below")).forward()
    above = work.walk(work.watched("above")).forward()

    below.back()
    above.back()

    assert not os.path.lexists(work.destination / "current")
    assert os.listdir(work.destination / "versions") == []


def test_a_run_taken_up_after_another_job_has_published_on_top_changes_nothing(work, snapshot):
    work.file("file")
    run = work.watched("slow")
    work.walk(run).forward()
    work.walk(work.watched("quick")).forward()
    published = snapshot(work.destination)
    del run.results["publish"]  # it died before that was recorded

    work.walk(run).forward("publish")

    assert snapshot(work.destination) == published


def test_two_jobs_at_once_both_publish_and_undo_without_harm_to_each_other(work, snapshot):
    work.small_tree()
    one, other = work.walk(work.watched("one")), work.walk(work.watched("other"))
    one.forward("manifest")
    other.forward("verify")
    one.forward()
    one.back()
    other.forward()

    assert os.readlink(work.destination / "current") == "versions/other-1"
    assert os.listdir(work.destination / "versions") == ["other-1"]


def test_a_folder_of_versions_that_another_undo_removed_is_made_again_and_removed_again(work, snapshot):
    work.file("file")
    one, other = work.walk(work.watched("one")), work.walk(work.watched("other"))
    one.forward("prepare")
    other.forward("verify")
    one.back()
    assert os.listdir(work.destination) == [".staging-other"]

    other.forward()
    assert os.readlink(work.destination / "current") == "versions/other-1"
    other.back()

    assert os.listdir(work.destination) == []


def test_a_switch_waits_for_the_one_under_way_and_a_cancel_ends_the_waiting(work):
    work.file("file")
    walk = work.walk(work.watched(event=CancelOnWait())).forward("verify")
    holder = os.open(work.destination, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        with pytest.raises(Cancelled, match="while it waited"):
            walk.forward()
    finally:
        os.close(holder)
    walk.back()
    assert not work.destination.exists()
