"""Problems: what an error is over HTTP (RFC 9457), from one table keyed by error family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide import errors
from ebbtide.errors import EbbtideError

__all__ = ["KINDS", "MEDIA_TYPE", "ApiError", "Kind", "Problem", "problem_of", "type_of"]

MEDIA_TYPE = "application/problem+json"
_TYPES = "urn:ebbtide:problem:"


@dataclass(frozen=True)
class Kind:
    """How an error is told: `facts` are attributes of it, in the order in which its class takes them."""

    status: int
    name: str
    title: str
    facts: tuple[str, ...] = ()
    stored: bool | None = False  # whether what was asked for is stored; None: nobody knows


# The first class of an error's MRO that is here decides.
KINDS: dict[type[EbbtideError], Kind] = {
    errors.UsageError: Kind(400, "wrong-call", "The call is wrong"),
    errors.ParameterError: Kind(
        422, "invalid-parameters", "The parameters do not fit the flow", ("flow", "problems")
    ),
    errors.PayloadTooLarge: Kind(413, "too-large", "Too much data", ("what", "size", "limit")),
    errors.AmbiguousJob: Kind(400, "ambiguous-job", "More than one job begins so", ("prefix", "matches")),
    errors.FlowRefused: Kind(422, "flow-refused", "The flow cannot be posted", ("flow", "problem")),
    errors.NotFound: Kind(404, "not-found", "There is no such thing"),
    errors.JobNotFound: Kind(404, "job-not-found", "There is no such job", ("job_id",)),
    errors.FlowNotFound: Kind(404, "unknown-flow", "There is no such flow", ("flow", "known")),
    errors.SavepointNotReached: Kind(
        404, "savepoint-not-reached", "There is no such savepoint", ("job_id", "savepoint", "reached")
    ),
    errors.TokenNotFound: Kind(404, "token-not-found", "There is no such token", ("token_id",)),
    errors.Conflict: Kind(409, "conflict", "The job's state rules this out"),
    errors.TooLate: Kind(409, "already-finished", "Too late to cancel", ("job_id", "state")),
    errors.EdgeRefused: Kind(
        409, "not-in-this-state", "The job's state rules this out", ("job_id", "state", "edge")
    ),
    errors.KeyBusy: Kind(409, "key-busy", "The exclusive key is taken", ("key", "jobs")),
    errors.ParentEnding: Kind(
        409, "parent-ending", "The parent takes no child any more", ("job_id", "state")
    ),
    errors.KeyReused: Kind(
        422, "idempotency-key-reused", "The idempotency key is that of another post", ("key", "job_id")
    ),
    errors.NotAllowed: Kind(403, "insufficient-scope", "Not allowed", ("problem",)),
    errors.StoreUnavailable: Kind(503, "store-unavailable", "Nothing was stored", ("detail",)),
    errors.CommitUnknown: Kind(503, "commit-unknown", "Whether it is stored is not known", ("detail",), None),
    errors.AnswerLost: Kind(503, "answer-lost", "It is stored", ("job_id", "detail"), True),
}
# What a reader may be told of where the store is and how it failed: nothing. The log has it.
_HIDDEN = frozenset({"detail"})


@dataclass(frozen=True)
class Problem:
    """One answer that is a problem; `facts` stand beside the five members that RFC 9457 names."""

    status: int
    name: str
    title: str
    detail: str
    facts: Mapping[str, Any]
    headers: Mapping[str, str]

    def body(self, instance: str | None = None) -> bytes:
        told = {"type": type_of(self.name), "title": self.title, "status": self.status, "detail": self.detail}
        if instance is not None:
            told["instance"] = instance
        return json.dumps({**self.facts, **told}).encode()


class ApiError(Exception):
    """A refusal by the API itself, before anything reached a poster.

    Args:
        name: the last part of its `type`.
        facts: further members of the answer.
    """

    def __init__(
        self,
        status: int,
        name: str,
        title: str,
        detail: str,
        *,
        facts: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status, name, title, detail, facts or {}, headers or {})


def type_of(name: str) -> str:
    """The `type` of a problem, a URN that never changes."""
    return f"{_TYPES}{name}"


def problem_of(error: EbbtideError) -> Problem:
    """How an error of ours is told."""
    kind = next(KINDS[each] for each in type(error).__mro__ if each in KINDS)
    facts = {name: getattr(error, name) for name in kind.facts if name not in _HIDDEN}
    detail, headers = str(error), {}
    if kind.status == 503:
        detail = _WORDS_OF_THE_STORE[kind.stored]
        facts["stored"] = kind.stored
        headers["Retry-After"] = "1"
    if kind.status == 403:
        headers["WWW-Authenticate"] = 'Bearer realm="ebbtide", error="insufficient_scope"'
    return Problem(kind.status, kind.name, kind.title, detail, facts, headers)


_WORDS_OF_THE_STORE = {
    False: "the store cannot be used, and nothing was stored: try again",
    None: "the store's answer was lost: look whether this is stored before you repeat it",
    True: "what you asked for is stored, but the job cannot be read now: do not ask again",
}
