"""The board `zookeeper`: TaskFlow's own driver, without what makes it slow, deaf or stuck."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.exceptions import NoNodeError
from taskflow import exceptions

from ebbtide.jobs.boards.board import Board, Notice, Pinned, noticed, priority_word
from ebbtide.jobs.ensemble import BOARD_NODE, Ensemble, Session, translated
from ebbtide.jobs.linkhealth import LinkBroken

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's conductors import
    from taskflow.jobs.backends.impl_zookeeper import ZookeeperJob, ZookeeperJobBoard

__all__ = ["ZookeeperBoard"]

# As many questions are on their way to the server at once.
_AT_ONCE = 200


class ZookeeperBoard(Board):
    """Below ``PATH/board``, as TaskFlow lays it out: a node for each notice, and an ephemeral one beside it
    for a claim, which ends with the session of whoever made it.

    The driver is never told to connect. It would ask the server for its version by a command that a server
    of today refuses, and watch all nodes for good: with each claim and each end every client would be sent
    the whole list, and go through it once for each of its nodes. Here the list is asked for when somebody
    looks; which nodes are claimed is seen from it, and each node is read once.
    """

    supports_watch = True

    def __init__(self, ensemble: Ensemble) -> None:
        self._path = ensemble.node(BOARD_NODE)
        self._on_change: Callable[[], None] | None = None
        self._session = Session(ensemble)
        try:
            with translated():
                self._session.ensure_path(self._path)
            self._driver = _Driver("ebbtide", {"path": self._path}, client=self._session.client)
        except BaseException:
            self._session.close()
            raise

    def post(self, notice: Notice) -> None:
        self._session.require_whole()
        try:
            job = self._driver.post(
                notice.key, details=notice.details(), priority=priority_word(notice.priority)
            )
        except exceptions.JobFailure as error:
            raise LinkBroken(str(error)) from error
        self._driver.forget(job.path)  # it would remember all that it ever posted

    def count(self) -> int:
        self._session.require_whole()
        with translated():
            found = self._session.answer(self._session.client.exists_async(self._path))
        if found is None:
            raise LinkBroken("the board's node is gone")  # the next link makes it anew
        return int(found.numChildren)

    def pinned(self, on_change: Callable[[], None] | None = None) -> list[Pinned]:
        self._session.require_whole()
        self._on_change = on_change
        watch = None if on_change is None else self._note_change
        with translated():
            children = self._session.answer(self._session.client.get_children_async(self._path, watch=watch))
            names = {child for child in children if child.startswith(_Driver.JOB_PREFIX)}
            claimed = {name for name in names if name.endswith(_Driver.LOCK_POSTFIX)}
            paths = {f"{self._path}/{name}" for name in names - claimed}
            unreadable = self._read(paths)
        for path in self._driver.known.keys() - paths:
            self._driver.forget(path)
        found = [
            Pinned(noticed(job.details), f"{path.rpartition('/')[2]}{_Driver.LOCK_POSTFIX}" in claimed, job)
            for path, job in self._driver.known.items()
        ]
        readable = [(each.notice.rank, each.job.sequence, each) for each in found if each.notice is not None]
        others = [each for each in found if each.notice is None]
        best_first = [each for *_, each in sorted(readable, key=lambda ranked: ranked[:2])]
        return [*best_first, *others, *(Pinned(None, False, path) for path in unreadable)]

    def _read(self, paths: set[str]) -> list[str]:
        """Read the nodes that are not known yet; returns those that are none of TaskFlow's."""
        unreadable = []
        unknown = sorted(paths - self._driver.known.keys())
        for first in range(0, len(unknown), _AT_ONCE):
            some = unknown[first : first + _AT_ONCE]
            asked = [(path, self._session.client.get_async(path)) for path in some]
            for path, answer in asked:
                try:
                    data, _ = self._session.answer(answer)
                except NoNodeError:
                    continue  # taken down since
                if not self._driver.learn(path, data):
                    unreadable.append(path)
        return unreadable

    def claim(self, pinned: Pinned, who: str) -> bool:
        self._session.require_whole()
        try:
            self._driver.claim(pinned.job, who)
        except (exceptions.UnclaimableJob, exceptions.NotFound):
            return False
        except exceptions.JobFailure as error:
            raise LinkBroken(str(error)) from error
        return True

    def release(self, pinned: Pinned, who: str) -> None:
        self._session.require_whole()
        try:
            self._driver.abandon(pinned.job, who)
        except exceptions.NotFound:
            return
        except exceptions.JobFailure as error:
            self._session.require_whole()
            if "not owned by" not in str(error):
                raise LinkBroken(str(error)) from error

    def remove(self, pinned: Sequence[Pinned]) -> None:
        # Not by the driver, which removes what it has claimed itself, and leaves the claim behind when the
        # rest is gone.
        self._session.require_whole()
        paths = [each.job if isinstance(each.job, str) else each.job.path for each in pinned]
        nodes = [node for path in paths for node in (path, path + _Driver.LOCK_POSTFIX)]
        with translated():
            for first in range(0, len(nodes), _AT_ONCE):
                some = nodes[first : first + _AT_ONCE]
                for answer in [self._session.client.delete_async(node) for node in some]:
                    with contextlib.suppress(NoNodeError):
                        self._session.answer(answer)
        for path in paths:
            self._driver.forget(path)

    def close(self) -> None:
        self._session.close()

    def _note_change(self, event: Any) -> None:
        # Called by a thread of kazoo. The same for every look: kazoo keeps each watch until it fires.
        if self._on_change is not None:
            self._on_change()


class _Driver(ZookeeperJobBoard):  # type: ignore[misc]  # taskflow is untyped
    """TaskFlow's, told what is there instead of finding out: it claims only what it knows."""

    @property
    def known(self) -> dict[str, ZookeeperJob]:
        """By their paths."""
        known: dict[str, ZookeeperJob] = self._known_jobs
        return known

    def learn(self, path: str, data: bytes) -> bool:
        """Take up what was read at a path. False: it is no job."""
        try:
            posting: Any = json.loads(data)
            job = ZookeeperJob(
                self,
                posting["name"],
                self._client,
                path,
                uuid=posting["uuid"],
                details=posting["details"],
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
        self._known_jobs[path] = job
        return True

    def _state_change_listener(self, state: str) -> None:
        # It would log a warning for each link that is closed; what became of one is its session's to say.
        pass

    def forget(self, path: str) -> None:
        self._known_jobs.pop(path, None)
