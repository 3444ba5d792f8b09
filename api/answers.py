"""What the API answers: models for its description, made from the records that posters return."""

from __future__ import annotations

import functools
import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, create_model

from ebbtide.api.problems import MEDIA_TYPE
from ebbtide.jobs.conductors import ConductorRecord
from ebbtide.jobs.credentials import Credential
from ebbtide.jobs.preview import Preview
from ebbtide.jobs.receipt import Receipt
from ebbtide.jobs.records import Chunk, Entry, Job, LogLine, TaskRecord
from ebbtide.jobs.statistics import Statistics

__all__ = [
    "AnswerModel",
    "CallerAnswer",
    "CancelModel",
    "ChunksAnswer",
    "ConductorsAnswer",
    "CountsAnswer",
    "CredentialModel",
    "DeleteAnswer",
    "EntriesAnswer",
    "FlowModel",
    "FlowsAnswer",
    "GraphAnswer",
    "JobModel",
    "JobsAnswer",
    "LogsAnswer",
    "ManyAnswer",
    "PreviewModel",
    "ProblemModel",
    "ReceiptModel",
    "ResultAnswer",
    "RowModel",
    "SavepointsAnswer",
    "StatisticsModel",
    "TasksAnswer",
    "job_dict",
    "problems",
    "row_dict",
]


@functools.cache
def model_of(record: type[Any], *without: str, name: str | None = None) -> type[BaseModel]:
    """The model of what `as_dict()` of a record gives: its times are texts."""
    hints = typing.get_type_hints(record)
    told: dict[str, Any] = {
        field.name: (_told(field.name, hints[field.name]), ...)
        for field in fields(record)
        if field.name not in without
    }
    config = ConfigDict(extra="forbid")
    return create_model(name or record.__name__, __config__=config, __doc__=record.__doc__, **told)


def _told(name: str, hint: Any) -> Any:
    if name == "at" or name.endswith("_at"):
        return str | None if types.NoneType in typing.get_args(hint) else str
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return typing.Union[tuple(_told("", part) for part in typing.get_args(hint))]  # noqa: UP007
    if typing.get_origin(hint) in (list, tuple):
        return list[_told("", typing.get_args(hint)[0])]  # type: ignore[misc]  # made at run time
    return model_of(hint) if isinstance(hint, type) and is_dataclass(hint) else hint


JobModel = model_of(Job)
RowModel = model_of(Job, "params", name="Row")
CredentialModel = model_of(Credential)
StatisticsModel = model_of(Statistics)
PreviewModel = model_of(Preview)
ReceiptModel = model_of(Receipt)


class CancelModel(JobModel):  # type: ignore[valid-type,misc]  # made at run time
    """The job, and whether this request was the first."""

    answer: Literal["accepted", "already requested"]


class AnswerModel(JobModel):  # type: ignore[valid-type,misc]  # made at run time
    """The job, and what was answered."""

    answer: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JobsAnswer(_Answer):
    """A page of jobs, newest first; without their parameters unless they were asked for."""

    jobs: list[JobModel | RowModel]  # type: ignore[valid-type]  # both are made at run time
    next: str | None


class CountsAnswer(_Answer):
    """How many jobs there are of each phase."""

    counts: dict[str, int]


class TasksAnswer(_Answer):
    """What began, in order."""

    tasks: list[model_of(TaskRecord)]  # type: ignore[valid-type]  # made at run time


class EntriesAnswer(_Answer):
    """The history of a job."""

    entries: list[model_of(Entry)]  # type: ignore[valid-type]  # made at run time


class LogsAnswer(_Answer):
    """What tasks logged and printed."""

    lines: list[model_of(LogLine)]  # type: ignore[valid-type]  # made at run time


class ChunksAnswer(_Answer):
    """What tasks have streamed."""

    chunks: list[model_of(Chunk)]  # type: ignore[valid-type]  # made at run time


class ResultAnswer(_Answer):
    """What a completed job came to."""

    result: Any


class GraphTask(_Answer):
    """A task of the graph; `state` is pending, running, interrupted, done, failed,
    cancelled, undoing, undone or stuck."""

    name: str
    kind: str
    state: str
    fraction: float | None


class GraphAnswer(_Answer):
    """The tasks of the present attempt, and what comes before what; none before a runner has begun."""

    attempt: int
    backwards: bool
    tasks: list[GraphTask]
    links: list[tuple[str, str]]


class OneOfMany(_Answer):
    """What one job was answered; its state is that of when it was asked, none if it was not seen."""

    id: str
    answer: str
    state: str | None


class FlowModel(_Answer):
    """A flow that can be posted; `parameters` is the JSON schema of its parameters."""

    name: str
    version: int
    doc: str
    returns: str | None
    parameters: dict[str, Any]
    retry: dict[str, Any] | None
    limits: dict[str, Any] | None
    on_failure: str | None
    exclusive: dict[str, Any] | None


class DeleteAnswer(_Answer):
    """What a deletion was answered: the job is undone first, and removed with its end."""

    answer: str


class ManyAnswer(_Answer):
    """What each job of many was answered."""

    answers: list[OneOfMany]


class FlowsAnswer(_Answer):
    """What conductors have published; of what is `paused`, a name or name@version, no job is taken up."""

    flows: list[FlowModel]
    paused: list[str]


class SavepointsAnswer(_Answer):
    """To what a job can be rewound, in the order in which it came to them."""

    savepoints: list[str]


class ConductorsAnswer(_Answer):
    """The conductors that the store remembers, the newest first."""

    conductors: list[model_of(ConductorRecord)]  # type: ignore[valid-type]  # made at run time


class CallerAnswer(_Answer):
    """Who asks, by the token or the session."""

    name: str
    role: str
    jobs_of: str | None


class ProblemModel(BaseModel):
    """What is wrong (RFC 9457). `type` never changes; further members are facts of that type."""

    type: str
    title: str
    status: int
    detail: str


def job_dict(job: Job) -> dict[str, Any]:
    return job.as_dict()


def row_dict(job: Job) -> dict[str, Any]:
    """A job in a list: its parameters, which may be large, are left out."""
    told = job.as_dict()
    del told["params"]
    return told


_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemModel"}}}}
_MEANINGS = {
    400: "The request cannot be read, or says something impossible.",
    401: "Nobody has said who asks.",
    403: "Whoever asks may not do this.",
    404: "There is no such thing, or it is somebody else's.",
    409: "The state of the job rules this out.",
    413: "Too much data.",
    415: "The body is not JSON.",
    422: "The request can be read, and does not fit.",
    429: "Too many requests.",
    503: "The store cannot be used.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of these answers, and of those that every request may get."""
    return {
        status: {"description": _MEANINGS[status], **_PROBLEM}
        for status in sorted({400, 401, 403, 429, 503, *statuses})
    }


def answered(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """A response as it stands: what posters return needs no second check."""
    return JSONResponse(value, status, headers)
