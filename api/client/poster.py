"""RemotePoster: a poster that asks an API server instead of a store."""

from __future__ import annotations

import builtins
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any, Unpack

import httpx

from ebbtide.api.client.connection import Connection, Event
from ebbtide.api.client.following import STREAM_SECONDS, Following
from ebbtide.api.client.records import read
from ebbtide.errors import JobNotFound, StoreUnavailable
from ebbtide.flows.exclusive import checked_key
from ebbtide.flows.published import PublishedFlow, PublishedFlows
from ebbtide.jobs.conductors import ConductorRecord
from ebbtide.jobs.many import Answer
from ebbtide.jobs.poster import WATCH_SECONDS
from ebbtide.jobs.posting import Wishes, WishesByName
from ebbtide.jobs.preview import Preview
from ebbtide.jobs.receipt import Receipt
from ebbtide.jobs.records import CancelAnswer, Chunk, Entry, Job, JobAnswer, LogLine, TaskRecord
from ebbtide.jobs.selection import Selection
from ebbtide.jobs.statistics import Statistics
from ebbtide.jobs.streams import rests
from ebbtide.jobs.verbs import DELETED

__all__ = ["RemotePoster", "path_of"]

_JOBS, _FLOWS = "/api/v1/jobs", "/api/v1/flows"
_ID = re.compile("[0-9a-fA-F-]{1,36}")
_KEY = "the idempotency key"
_PAGE = 50
_LINES = 1000


class RemotePoster:
    """A poster with the names and the errors of `ebbtide.Poster`, over HTTP.

        with RemotePoster("http://127.0.0.1:8765", token) as poster:
            job = poster.post("copy", {"source": "/data"})
            poster.cancel(job.id, reason="wrong folder")

    Args:
        server: the URL of what `ebbtide api` serves.
        token: what `ebbtide token create` printed.
        transport: how requests get there; default: the network.

    Every method raises `StoreUnavailable` when the server cannot be reached, and `NotAllowed` when the token
    is none, or its role does not allow it. Times have whole milliseconds.
    """

    def __init__(self, server: str, token: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._connection = Connection(server, token, transport=transport)

    def __enter__(self) -> RemotePoster:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._connection.close()

    @property
    def registry(self) -> PublishedFlows:
        """The flows that the server's conductors have published, read anew at each access."""
        told = self._connection.get(_FLOWS)["flows"]
        return PublishedFlows([PublishedFlow.from_dict(each) for each in told])

    def post(
        self,
        flow: str,
        params: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        **wishes: Unpack[WishesByName],
    ) -> Job:
        """As `Poster.post`; who posts is told by the token."""
        wanted = Wishes(**wishes)
        body: dict[str, Any] = {
            **{field.name: getattr(wanted, field.name) for field in fields(Wishes) if field.name != "key"},
            "flow": flow,
            "params": dict(params or {}),
            "version": version,
            "labels": dict(wanted.labels),
            "at": None if wanted.at is None else wanted.at.isoformat(),
            "retry": None if wanted.retry is None else asdict(wanted.retry),
            "limits": None if wanted.limits is None else asdict(wanted.limits),
        }
        headers = {} if wanted.key is None else {"Idempotency-Key": checked_key(wanted.key, _KEY)}
        return read(Job, self._connection.change("POST", _JOBS, body, headers))

    def cancel(self, job_id: str, reason: str = "") -> CancelAnswer:
        """As `Poster.cancel`; who asks is told by the token."""
        value = self._connection.change("POST", f"{path_of(job_id)}/cancel", {"reason": reason})
        return CancelAnswer(read(Job, value), value["answer"])

    def retry(self, job_id: str, *, from_failure: bool = False) -> Job:
        """As `Poster.retry`."""
        return self._changed(f"{path_of(job_id)}/retry", {"from_failure": from_failure})

    def preview(self, job_id: str) -> Preview:
        """As `Poster.preview`."""
        return read(Preview, self._connection.get(f"{path_of(job_id)}/preview"))

    def receipt(self, job_id: str) -> Receipt:
        """As `Poster.receipt`."""
        return read(Receipt, self._connection.get(f"{path_of(job_id)}/receipt"))

    def pause(self, job_id: str) -> JobAnswer:
        """As `Poster.pause`."""
        return self._answered(f"{path_of(job_id)}/pause")

    def resume(self, job_id: str) -> Job:
        """As `Poster.resume`."""
        return self._changed(f"{path_of(job_id)}/resume")

    def rewind(self, job_id: str, savepoint: str) -> JobAnswer:
        """As `Poster.rewind`."""
        return self._answered(f"{path_of(job_id)}/rewind", {"savepoint": savepoint})

    def savepoints(self, job_id: str) -> builtins.list[str]:
        """As `Poster.savepoints`."""
        return list(self._connection.get(f"{path_of(job_id)}/savepoints")["savepoints"])

    def pause_flow(self, flow: str, version: int | None = None) -> bool:
        """As `Poster.pause_flow`, of a flow that a conductor has published."""
        return self._paused(flow, version, "pause")

    def resume_flow(self, flow: str, version: int | None = None) -> bool:
        """As `Poster.resume_flow`, of a flow that a conductor has published."""
        return self._paused(flow, version, "resume")

    def paused_flows(self) -> builtins.list[str]:
        """As `Poster.paused_flows`."""
        return list(self._connection.get(_FLOWS)["paused"])

    def unpark(self, job_id: str, *, skip: str | None = None, reason: str = "") -> Job:
        """As `Poster.unpark`."""
        return self._changed(f"{path_of(job_id)}/unpark", {"skip": skip, "reason": reason})

    def accept(self, job_id: str, reason: str) -> Job:
        """As `Poster.accept`."""
        return self._changed(f"{path_of(job_id)}/accept", {"reason": reason})

    def delete(self, job_id: str) -> str:
        """As `Poster.delete`."""
        value = self._connection.change("DELETE", path_of(job_id))
        return DELETED if value is None else str(value["answer"])

    def cancel_many(
        self, selection: Selection, reason: str = "", *, dry_run: bool = False
    ) -> builtins.list[Answer]:
        """As `Poster.cancel_many`."""
        return self._many("cancel", selection, dry_run, reason=reason)

    def retry_many(self, selection: Selection, *, dry_run: bool = False) -> builtins.list[Answer]:
        """As `Poster.retry_many`."""
        return self._many("retry", selection, dry_run)

    def pause_many(self, selection: Selection, *, dry_run: bool = False) -> builtins.list[Answer]:
        """As `Poster.pause_many`."""
        return self._many("pause", selection, dry_run)

    def resume_many(self, selection: Selection, *, dry_run: bool = False) -> builtins.list[Answer]:
        """As `Poster.resume_many`."""
        return self._many("resume", selection, dry_run)

    def delete_many(self, selection: Selection, *, dry_run: bool = False) -> builtins.list[Answer]:
        """As `Poster.delete_many`."""
        return self._many("delete", selection, dry_run)

    def show(self, job_id: str) -> Job:
        """As `Poster.show`."""
        return read(Job, self._connection.get(path_of(job_id)))

    def list(
        self,
        *,
        state: str | None = None,
        flow: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> builtins.list[Job]:
        """As `Poster.list`, read page by page."""
        pairs = [f"{key}={value}" for key, value in (labels or {}).items()]
        found: builtins.list[Job] = []
        cursor = None
        while True:
            page = self._connection.get(
                _JOBS,
                state=state,
                flow=flow,
                label=pairs,
                limit=min(_PAGE, limit - len(found)),
                cursor=cursor,
                params=True,
            )
            found += [read(Job, job) for job in page["jobs"]]
            cursor = page["next"]
            if cursor is None or len(found) >= limit:
                return found

    def tasks(self, job_id: str, attempt: int | None = None) -> builtins.list[TaskRecord]:
        """As `Poster.tasks`."""
        told = self._connection.get(f"{path_of(job_id)}/tasks", attempt=attempt)
        return [read(TaskRecord, each) for each in told["tasks"]]

    def entries(self, job_id: str, after: int = 0) -> builtins.list[Entry]:
        """As `Poster.entries`."""
        told = self._connection.get(f"{path_of(job_id)}/entries", after=after)
        return [read(Entry, each) for each in told["entries"]]

    def logs(self, job_id: str, after: int = 0, limit: int = 1000) -> builtins.list[LogLine]:
        """As `Poster.logs`, read page by page."""
        found: builtins.list[LogLine] = []
        while True:
            wanted = min(_LINES, limit - len(found))
            told = self._connection.get(f"{path_of(job_id)}/logs", after=after, limit=wanted)["lines"]
            found += [read(LogLine, each) for each in told]
            if len(told) < wanted or len(found) >= limit:
                return found
            after = found[-1].number

    def chunks(self, job_id: str, after: int = 0) -> builtins.list[Chunk]:
        """As `Poster.chunks`."""
        told = self._connection.get(f"{path_of(job_id)}/chunks", after=after)
        return [read(Chunk, each) for each in told["chunks"]]

    def stream(self, job_id: str, after: int = 0, timeout: float | None = None) -> Iterator[Chunk]:
        """As `Poster.stream`; asked for four times a second."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # The job is read first: what it has sent by then is surely among what is read after it.
            job = self.show(job_id)
            while chunks := self.chunks(job_id, after):
                after = chunks[-1].number
                yield from chunks
            if rests(job):
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {job_id} is still {job.phase} after {timeout} seconds")
            _pause(STREAM_SECONDS)

    def result(self, job_id: str) -> Any:
        """As `Poster.result`."""
        return self._connection.get(f"{path_of(job_id)}/result")["result"]

    def conductors(self) -> builtins.list[ConductorRecord]:
        """As `Poster.conductors`."""
        told = self._connection.get("/api/v1/conductors")
        return [read(ConductorRecord, each) for each in told["conductors"]]

    def statistics(self, window_seconds: float | None = None, *, flow: str | None = None) -> Statistics:
        """As `Poster.statistics`."""
        return read(
            Statistics, self._connection.get("/api/v1/stats", window_seconds=window_seconds, flow=flow)
        )

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """As `Poster.wait`."""
        for event, value in self._events(job_id, timeout):
            if event == "job":
                job = read(Job, value)
                if rests(job):
                    return job
        raise JobNotFound(job_id)  # it was deleted meanwhile

    def follow(self, job_id: str, timeout: float | None = None) -> Iterator[Entry]:
        """As `Poster.follow`. A stream that breaks is taken up where it was."""
        for event, value in self._events(job_id, timeout):
            if event == "entry":
                yield read(Entry, value)

    def watch(self, job_id: str, seconds: float = WATCH_SECONDS) -> Iterator[Job]:
        """As `Poster.watch`, but whenever the job is another, four times a second at most; and once more
        `seconds` later, for whoever reads more of it each time. Also over a restart of the server.
        """
        for event, value in self._events(job_id, None):
            if event == "job":
                yield (job := read(Job, value))
                if not rests(job):
                    # Maybe nothing changes for hours: what was stored just then is to be found before that.
                    _pause(seconds)
                    yield job
            elif event == "deleted":
                raise JobNotFound(job_id)

    def _events(self, job_id: str, timeout: float | None) -> Iterator[Event]:
        """Events until the job rests. Once they have begun, a server that is away is waited for."""
        following, path = Following(job_id, timeout), f"{path_of(job_id)}/events"
        while True:
            left = following.left()
            try:
                for event, value in self._connection.events(path, silence_seconds=left, **following.query):
                    last = following.note(event, value)
                    yield event, value
                    if last:
                        return
                    following.left()
                _pause(following.pause())
            except TimeoutError:
                continue  # either all the time is over, or the server was silent for too long
            except StoreUnavailable as error:
                _pause(following.pause(error))

    def _many(self, verb: str, selection: Selection, dry_run: bool, **more: Any) -> builtins.list[Answer]:
        selection.check()
        asked = {field.name: getattr(selection, field.name) for field in fields(Selection)}
        asked |= {"labels": dict(selection.labels), "dry_run": dry_run, **more}
        told = self._connection.change("POST", f"{_JOBS}/{verb}", asked)
        return [Answer(each["id"], each["answer"], each["state"]) for each in told["answers"]]

    def _answered(self, path: str, body: Any = None) -> JobAnswer:
        value = self._connection.change("POST", path, body)
        return JobAnswer(read(Job, value), value["answer"])

    def _paused(self, flow: str, version: int | None, act: str) -> bool:
        key = flow if version is None else f"{flow}@{version}"
        before = self.paused_flows()
        known = self.registry.get(key)
        self._connection.change("POST", f"{_FLOWS}/{known.name if key == known.name else known.key}/{act}")
        return (key in before) == (act == "resume")

    def _changed(self, path: str, body: Any = None) -> Job:
        return read(Job, self._connection.change("POST", path, body))


def path_of(job_id: str) -> str:
    """The path of a job. Raises JobNotFound for what can be the id of none."""
    if not _ID.fullmatch(job_id):
        raise JobNotFound(job_id)
    return f"{_JOBS}/{job_id}"


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
