"""The board `redis`: TaskFlow's own driver, whose claims end by themselves here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from oslo_serialization import msgpackutils

from ebbtide.jobs.boards.board import Board, Notice, Pinned, noticed, priority_word
from ebbtide.jobs.linkhealth import LinkBroken
from ebbtide.jobs.redisclient import make_client

import redis  # isort: skip  # what is imported above tells what to install when it is not here
from taskflow import exceptions  # isort: skip
from taskflow.jobs.backends.impl_redis import RedisJob, RedisJobBoard  # isort: skip

__all__ = ["CLAIM_SECONDS", "RedisBoard"]

# From the claim on the board to the one in the ledger: after that the notice is taken down, or released.
CLAIM_SECONDS = 10.0


class RedisBoard(Board):
    """Under ``CHANNEL.board``, as TaskFlow lays it out: a hash with all notices, and a key for each claim.

    A claim of the driver's has no end unless one is given: that of a dead conductor would stay for good. Its
    list is not asked for: it deletes what it cannot read, fails, and has the newest first.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._client = make_client(url)
        self._known: dict[bytes, RedisJob] = {}  # what has been read; a notice never changes
        self._driver = RedisJobBoard("ebbtide", {"namespace": f"{channel}.board"}, client=self._client)
        try:
            with _translated():
                self._driver.connect()
        except BaseException:
            self.close()
            raise

    def post(self, notice: Notice) -> None:
        with _translated():
            self._driver.post(notice.key, details=notice.details(), priority=priority_word(notice.priority))

    def count(self) -> int:
        with _translated():
            return int(self._driver.job_count)

    def pinned(self, on_change: Callable[[], None] | None = None) -> list[Pinned]:
        with _translated():
            found: dict[bytes, bytes] = self._client.hgetall(self._driver.listings_key)
            jobs = {key: self._known.get(key) or self._job(key, raw) for key, raw in found.items()}
            self._known = {key: job for key, job in jobs.items() if job is not None}
            owners = self._client.mget([job.owner_key for job in self._known.values()]) if self._known else []
        readable, others = [], [Pinned(None, False, key) for key, job in jobs.items() if job is None]
        for job, owner in zip(self._known.values(), owners, strict=True):
            each = Pinned(noticed(job.details), owner is not None, job)
            if each.notice is None:
                others.append(each)
            else:
                readable.append((each.notice.rank, job.sequence, each))
        return [each for *_, each in sorted(readable, key=lambda ranked: ranked[:2])] + others

    def claim(self, pinned: Pinned, who: str) -> bool:
        with _translated():
            try:
                self._driver.claim(pinned.job, who, expiry=CLAIM_SECONDS)
            except (exceptions.UnclaimableJob, exceptions.NotFound):
                return False
            return True

    def release(self, pinned: Pinned, who: str) -> None:
        with _translated():
            try:
                self._driver.abandon(pinned.job, who)
            except exceptions.NotFound:
                pass
            except exceptions.JobFailure as error:
                if "not owned by" not in str(error):
                    raise

    def remove(self, pinned: Sequence[Pinned]) -> None:
        if not pinned:
            return
        jobs = [each.job for each in pinned if not isinstance(each.job, bytes)]
        keys = [each.job if isinstance(each.job, bytes) else each.job.key for each in pinned]
        with _translated():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hdel(self._driver.listings_key, *keys)
            if jobs:
                pipeline.delete(*(key for job in jobs for key in (job.owner_key, job.last_modified_key)))
            pipeline.execute()

    def close(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            self._client.close()

    def _job(self, key: bytes, raw: bytes) -> RedisJob | None:
        """What stands there; None: it is no job of TaskFlow's."""
        try:
            posting: Any = msgpackutils.loads(raw)
            return RedisJob(
                self._driver,
                posting["name"],
                int(posting["sequence"]),
                key,
                uuid=posting["uuid"],
                details=posting["details"],
            )
        except Exception:  # noqa: BLE001  # msgpack names no errors of its own; somebody else wrote this
            return None


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except exceptions.JobFailure as error:
        # Its own text is that of the cause with a line of names above it.
        raise LinkBroken(str(error.cause or error)) from error
    except (redis.RedisError, OSError) as error:
        raise LinkBroken(str(error)) from error
