"""Cancelled anywhere, failed anywhere, dead anywhere: the destination is as it was, or as it should be."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ebbtide.tasks import Cancelled, CancelEvent
from ebbtide.tasks.wrapping import TaskExited

CHANGES = ("mkdir", "rename", "replace", "symlink", "unlink", "rmdir", "fsync")
"""The calls by which the tasks change a disk, and the one that follows each file they write."""


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


class Died(BaseException):
    """Stands for the end of a runner: no code of a task handles it."""


class Deaths:
    """Lets a run die at its n-th change of the disk; 0: never. `made`: how many changes there were."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at = at
        self.after = after
        self.made = 0

    @contextmanager
    def armed(self, monkeypatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, self._deadly(getattr(os, name)))
            yield

    def _deadly(self, change):
        def changed(*args, **kwargs):
            self.made += 1
            if self.made == self.at and not self.after:
                raise Died
            value = change(*args, **kwargs)
            if self.made == self.at:
                raise Died
            return value

        return changed


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
    assert event.looks > 100

    for look in range(1, event.looks + 1):
        walk = place.walk(place.watched(event=CancelAt(look)))
        with pytest.raises(Cancelled):
            walk.forward()
        walk.back()
        assert snapshot(place.folder) == before, f"after a cancel at look {look} of {event.looks}"


def _changes_of(monkeypatch, place, until: str | None = None) -> int:
    deaths = Deaths(0, after=False)
    with deaths.armed(monkeypatch):
        walk = place.walk().forward(until)
    walk.back()
    return deaths.made


@pytest.mark.parametrize("after", [False, True], ids=["before a change", "after a change"])
def test_dead_anywhere_and_then_undone_the_destination_is_as_it_was(place, snapshot, monkeypatch, after):
    before = snapshot(place.folder)
    for number in range(1, _changes_of(monkeypatch, place) + 1):
        run = place.watched()
        with Deaths(number, after=after).armed(monkeypatch), pytest.raises(TaskExited):
            place.walk(run).forward()
        _another(place, run).back()
        assert snapshot(place.folder) == before, f"after death at change {number}"


@pytest.mark.parametrize("after", [False, True], ids=["before a change", "after a change"])
def test_dead_anywhere_and_taken_up_again_the_result_is_the_same(place, snapshot, monkeypatch, after):
    before = snapshot(place.folder)
    place.walk().forward()
    wanted = _without_times(snapshot(place.destination))
    place.walk(place.watched()).forward().back()
    _remove_published(place, snapshot, before)

    for number in range(1, _changes_of(monkeypatch, place) + 1):
        run = place.watched()
        with Deaths(number, after=after).armed(monkeypatch), pytest.raises(TaskExited):
            place.walk(run).forward()
        walk = _another(place, run).forward()
        assert _without_times(snapshot(place.destination)) == wanted, f"after death at change {number}"
        walk.back()
        assert snapshot(place.folder) == before, f"undone, after death at change {number}"
