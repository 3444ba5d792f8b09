"""A post: what is checked of a job before it is stored, whoever posts it, and how it is stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

import sqlalchemy as sa

from ebbtide.config import Settings
from ebbtide.errors import KeyReused, PayloadTooLarge, UsageError
from ebbtide.flows import FlowDefinition, Registry
from ebbtide.flows.exclusive import REFUSE, WAIT, checked_busy, checked_key
from ebbtide.flows.policies import Limits, OnFailure, Policies, RetryPolicy
from ebbtide.jobs import tables
from ebbtide.jobs.children import require_parent
from ebbtide.jobs.edges import insert_first_entry
from ebbtide.jobs.keys import reserve
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.states import JobState
from ebbtide.jobs.texts import checked_labels, is_number
from ebbtide.tasks import payload

__all__ = [
    "MAX_DELAY_SECONDS",
    "MAX_PRIORITY",
    "NewJob",
    "Wishes",
    "WishesByName",
    "checked_post",
    "insert_job",
]

MAX_PRIORITY = 1000
MAX_DELAY_SECONDS = 10 * 365 * 86400

_jobs = tables.jobs
# The same on every kind of database: a row that is there already is left alone.
_take_key = sa.text(
    "INSERT INTO job_keys (owner, key, job, body) VALUES (:owner, :key, :job, :body) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True)
class Wishes:
    """What may be said of a job beside its flow and parameters.

    Attributes:
        labels: to find it by.
        priority: higher ones are claimed first.
        delay_seconds: claim it no sooner than in so long.
        at: claim it no sooner than then, a moment with a time zone. In the past: at once.
        exclusive: a key that it has to hold to run, of which there is one. Not for a flow that has its own.
        on_busy: ``wait`` or ``refuse``, while the key is taken; default: as the flow says, else ``wait``.
        key: an idempotency key: of posts by one person with the same key one is stored, and the others are
            answered with its job. It is kept as long as the job.
        parent: the id of a job by whose cancel this one is cancelled, and whose undo waits for its end.
        detached: the job named as `parent` is only noted in the history.
        retry, limits, on_failure: as for `ebbtide.flow`; None: as the flow says, else the options.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    delay_seconds: float = 0.0
    at: datetime | None = None
    exclusive: str | None = None
    on_busy: str | None = None
    key: str | None = None
    parent: str | None = None
    detached: bool = False
    retry: RetryPolicy | None = None
    limits: Limits | None = None
    on_failure: OnFailure | None = None


class WishesByName(TypedDict, total=False):
    """The attributes of `Wishes`, as arguments of a call."""

    labels: Mapping[str, str]
    priority: int
    delay_seconds: float
    at: datetime | None
    exclusive: str | None
    on_busy: str | None
    key: str | None
    parent: str | None
    detached: bool
    retry: RetryPolicy | None
    limits: Limits | None
    on_failure: OnFailure | None


@dataclass(frozen=True)
class NewJob:
    """A job to be posted. `parameters` and `labels_text` are JSON texts, checked by whoever made it.

    `refuse_busy`: it takes a slot of its exclusive key now, or is refused. `body` is a digest of what was
    asked for, by which a repeated post is told from another with the same `key`.
    """

    flow: str
    version: int
    parameters: str
    labels_text: str
    labels: Mapping[str, str]
    priority: int = 0
    delay_seconds: float = 0.0
    policies: Policies = field(default_factory=Policies)
    at: float | None = None
    exclusive_key: str | None = None
    key_limit: int = 1
    refuse_busy: bool = False
    key: str | None = None
    body: str = ""
    parent: str | None = None
    parent_epoch: int | None = None  # of the claim under which the parent's own task posts it
    detached: bool = False


def checked_post(
    registry: Registry,
    flow: str,
    params: Mapping[str, Any] | None,
    wishes: Wishes,
    *,
    settings: Settings,
    version: int | None = None,
    max_parameter_bytes: int = payload.MAX_BYTES,
) -> NewJob:
    """The job that is asked for. The flow is built once, to see that every task of it can be cancelled.

    `settings` say what is decided of a job where neither it nor its flow does.

    Raises:
        FlowNotFound, ParameterError, FlowRefused, PayloadTooLarge, UsageError.
    """
    definition = registry.get(flow, version)
    if not isinstance(params or {}, Mapping):
        raise UsageError(f"parameters are given by name, in a mapping, not as a {type(params).__name__}")
    canonical = definition.validate(params or {})
    text = _encoded(canonical, "the parameters", max_parameter_bytes)
    definition.build(canonical)
    labels = checked_labels(wishes.labels)
    at = _checked_moment(wishes)
    exclusive_key, limit, on_busy = _checked_exclusive(definition, canonical, wishes)
    policies = definition.policies(
        settings, retry=wishes.retry, limits=wishes.limits, on_failure=wishes.on_failure
    )
    # Without the version, unless it was asked for: the same post may be repeated after an upgrade.
    asked = [flow, version, text, labels, wishes.priority, wishes.delay_seconds, at, wishes.exclusive]
    asked += [wishes.on_busy, wishes.parent, wishes.detached, policies.as_dict()]
    return NewJob(
        flow=definition.name,
        version=definition.version,
        parameters=text,
        labels_text=_encoded(labels, "the labels", payload.MAX_BYTES),
        labels=labels,
        priority=_checked_priority(wishes.priority),
        delay_seconds=wishes.delay_seconds,
        policies=policies,
        at=at,
        exclusive_key=exclusive_key,
        key_limit=limit,
        refuse_busy=on_busy == REFUSE,
        key=None if wishes.key is None else checked_key(wishes.key, "the idempotency key"),
        body=hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
        parent=wishes.parent,
        detached=wishes.detached,
    )


def _checked_priority(priority: int) -> int:
    if not is_number(priority, int) or abs(priority) > MAX_PRIORITY:
        raise UsageError(f"the priority should be a whole number of -{MAX_PRIORITY} to {MAX_PRIORITY}")
    return priority


def _checked_moment(wishes: Wishes) -> float | None:
    """Unix seconds of `at`, if it is given; a delay is checked, too."""
    delay = wishes.delay_seconds
    if not is_number(delay, (int, float)) or not 0 <= delay <= MAX_DELAY_SECONDS:
        raise UsageError(f"the delay should be a number of seconds, 0 to {MAX_DELAY_SECONDS}")
    if wishes.at is None:
        return None
    if delay:
        raise UsageError("a delay and a moment are given: leave one of them out")
    if not isinstance(wishes.at, datetime) or wishes.at.utcoffset() is None:
        raise UsageError("the moment should be a datetime with a time zone")
    return wishes.at.timestamp()


def _checked_exclusive(
    definition: FlowDefinition, canonical: Mapping[str, Any], wishes: Wishes
) -> tuple[str | None, int, str]:
    """The exclusive key of the job, its slots, and what becomes of the post while all are taken."""
    shared = definition.exclusive
    if wishes.exclusive is not None and shared is not None:
        raise UsageError(f"flow {definition.name} has an exclusive key of its own: give none with the post")
    on_busy = None if wishes.on_busy is None else checked_busy(wishes.on_busy)
    if shared is not None:
        return shared.key_for(canonical), shared.limit, on_busy or shared.on_busy
    if wishes.exclusive is not None:
        return checked_key(wishes.exclusive, "the exclusive key"), 1, on_busy or WAIT
    if on_busy is not None:
        raise UsageError(f"on_busy wants an exclusive key, which flow {definition.name} does not have")
    return None, 1, WAIT


def _encoded(value: Any, what: str, max_bytes: int) -> str:
    text = payload.encode(value, what, max_bytes=1 << 62)
    if len(text) > max_bytes:
        raise PayloadTooLarge(what, len(text), max_bytes)
    return text


def insert_job(connection: sa.Connection, new: NewJob, job_id: str, *, at: float, who: str) -> str:
    """Store the job under that id; returns the id of the job that the post is answered with.

    That is another one where somebody has posted the same under the same idempotency key before.

    Raises:
        KeyReused: or something else, under that key.
        KeyBusy: its exclusive key is taken, and it is to be refused then.
        IntegrityError: the same, by somebody who was quicker in this moment.
        JobNotFound, ParentEnding: the parent is not there, or takes no child any more.
        ClaimLost: its own task posts it, and has lost its claim.
    """
    if new.key is not None:
        posted = _posted_before(connection, new, job_id, who)
        if posted is not None:
            return posted
    detail: dict[str, Any] = {}
    if new.parent is not None:
        detail = {"parent": new.parent, "detached": new.detached}
        require_parent(connection, new.parent, epoch=new.parent_epoch, detached=new.detached)
    row = _insert_row(connection, new, job_id, at)
    connection.execute(
        sa.insert(tables.job_parameters).values(job=job_id, parameters=new.parameters, labels=new.labels_text)
    )
    if new.policies != Policies():
        policies = payload.encode(new.policies.as_dict(), "the policies")
        connection.execute(sa.insert(tables.job_policies).values(job=job_id, policies=policies))
    if new.labels:
        connection.execute(
            sa.insert(tables.job_labels),
            [{"job": job_id, "key": key, "value": value} for key, value in new.labels.items()],
        )
    insert_first_entry(connection, row, at, who, detail)
    return job_id


def _insert_row(connection: sa.Connection, new: NewJob, job_id: str, at: float) -> sa.Row[Any]:
    held = None
    if new.refuse_busy and new.exclusive_key is not None:
        held = reserve(connection, new.exclusive_key, new.key_limit)
    due: Any = WallNow() + new.delay_seconds
    if new.at is not None:
        # Not before now: who names the past would stand before those who have waited longer.
        due = sa.case((WallNow() < new.at, new.at), else_=WallNow())
    return connection.execute(
        sa.insert(_jobs)
        .values(
            id=job_id,
            flow=new.flow,
            version=new.version,
            state=JobState.PENDING.value,
            priority=new.priority,
            created_at=at,
            due_at=due,
            limit_seconds=new.policies.limits.job_seconds,
            stall_seconds=new.policies.limits.no_progress_seconds,
            entries=1,
            exclusive_key=new.exclusive_key,
            key_limit=new.key_limit,
            held_key=held,
            parent=None if new.detached else new.parent,
        )
        .returning(_jobs)
    ).one()


def _posted_before(connection: sa.Connection, new: NewJob, job_id: str, who: str) -> str | None:
    """The job that has the idempotency key already; None: it is this one's from now on."""
    taken = connection.execute(
        _take_key, {"owner": who, "key": new.key, "job": job_id, "body": new.body}
    ).rowcount
    if taken:
        return None
    keys = tables.job_keys
    found = connection.execute(
        sa.select(keys.c.job, keys.c.body).where(keys.c.owner == who, keys.c.key == new.key)
    ).first()
    if found is None:  # its job was deleted between the two statements
        return _posted_before(connection, new, job_id, who)
    if found.body != new.body:
        raise KeyReused(str(new.key), found.job)
    return str(found.job)
