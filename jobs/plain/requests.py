"""CancelRequests: where cancel requests are put, and found, when there is no ledger to record them in."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from dataclasses import replace

from ebbtide.errors import UsageError
from ebbtide.jobs.requestfiles import PENDING, PROCESSED, FiledRequest, checked_job_id
from ebbtide.jobs.signals import Signal
from ebbtide.jobs.texts import MAX_REASON, MAX_WHO, checked_text, whoami

__all__ = ["CancelRequests", "decode", "new_request", "processed"]


class CancelRequests(ABC):
    """One request for each flow or job, pending until an engine has taken it up. Safe to use from threads.

        with open_requests("zookeeper://zk1:2181/ebbtide") as requests:
            requests.request(flow_detail.uuid, reason="wrong customer")

    A request says what is wanted of the flow or job with that uuid *now or later*: put down before anybody
    has claimed the job, it is found when an engine begins. One for what has ended already, or does not
    exist, is answered by nobody.

    Every method raises StoreUnavailable when what holds the requests cannot be reached; nothing was
    requested then. One that is interrupted there may be repeated.
    """

    @abstractmethod
    def request(self, uuid: str, reason: str = "", who: str | None = None) -> FiledRequest:
        """Ask for a flow or a job to be cancelled; the request is stored when this returns.

        While a request is pending, asking again changes nothing and returns it.

        Raises:
            UsageError: the uuid is none, or a text cannot be stored.
        """

    @abstractmethod
    def check(self, uuid: str) -> FiledRequest | None:
        """The request for this flow or job, pending or processed; `answer` is the engine's. None: no request.

        Raises:
            UsageError: the uuid is none, or what stands there is no request.
        """

    @abstractmethod
    def answer(self, request: FiledRequest, answer: str) -> None:
        """Mark a pending request as processed, and say what became of it.

        Nothing, where it is pending no more: somebody else has answered it, and another may have come since.
        """

    @abstractmethod
    def open_signal(self) -> Signal:
        """What rings with each request; whoever opens it closes it."""

    def close(self) -> None:  # noqa: B027  # not all have something to let go of
        """Let go of connections. Safe to call twice."""

    def __enter__(self) -> CancelRequests:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def new_request(uuid: str, reason: str, who: str | None) -> FiledRequest:
    """A request as it is put down, its texts checked."""
    return FiledRequest(
        job_id=checked_job_id(uuid),
        status=PENDING,
        reason=checked_text(reason, "the reason", MAX_REASON),
        who=checked_text(whoami() if who is None else who, "who asks", MAX_WHO) or whoami(),
        requested_at=time.time(),
    )


def processed(request: FiledRequest, answer: str) -> FiledRequest:
    """The request once an engine has answered it."""
    return replace(request, status=PROCESSED, answer=answer, processed_at=time.time())


def decode(data: bytes, uuid: str) -> FiledRequest:
    """The request that was stored as this, on a server that others may write to.

    Raises:
        UsageError: it is none.
    """
    try:
        told = json.loads(data)
        asked = new_request(uuid, told.get("reason", ""), told.get("who", ""))
        asked = replace(asked, requested_at=float(told["requested_at"]))
        if told["status"] == PENDING:
            return asked
        answer = checked_text(told["answer"], "the answer", MAX_REASON)
        return replace(processed(asked, answer), processed_at=float(told["processed_at"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"what stands there for {uuid} is no cancel request") from error
