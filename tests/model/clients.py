"""What clients may do at any moment: post, cancel (twice), pause, resume, retry, unpark, accept."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.state import (
    CANCELLED,
    COMPLETED,
    FAILED,
    INTERRUPTED,
    NEVER,
    NONE,
    PARKED,
    PAUSED,
    PENDING,
    RAISED,
    RUNNING,
    Action,
    Shape,
    State,
)
from tests.model.variants import Variant

__all__ = ["ANSWERED_ACCEPTED", "client_moves"]

_Moves = Iterator[tuple[Action, State]]

ANSWERED_ACCEPTED = "is answered: accepted"
_POSTED, _ACCEPTED = "posted", "accepted"  # answers on their way
_POSTING, _CANCELLING = "posting", "cancelling"  # commits on their way, already answered


def client_moves(state: State, shape: Shape, variant: Variant) -> _Moves:
    """All that a client may do now."""
    if state.reply:
        yield from _answers(state)
    if state.state == NONE:
        yield from _post(state, shape, variant)
        return
    if not state.reply:
        yield from _cancel(state, shape, variant)
    if state.state in (FAILED, CANCELLED) and state.attempt < shape.attempts:
        yield _client("retries the job", "retried"), _next_attempt(state)
    if shape.pauses:
        yield from _pause(state)
    if state.state == PARKED:
        yield from _repair(state)


def _client(verb: str, *edges: str) -> Action:
    return Action(verb, edges=edges, own=False)


def _post(state: State, shape: Shape, variant: Variant) -> _Moves:
    if variant is Variant.ANSWER_FIRST:
        if not state.posted:
            told = state._replace(posted=True, reply=_POSTING)
            yield _client("posts the job, and is answered: posted; nothing is stored yet"), told
        return
    posted = state._replace(state=PENDING)
    later = posted._replace(reply=_POSTED) if shape.late_answers else posted._replace(posted=True)
    yield _client("posts the job; stored", "posted"), later


def _answers(state: State) -> _Moves:
    quiet = state._replace(reply="")
    if state.reply == _POSTED:
        yield _client("is answered: posted"), quiet._replace(posted=True)
    elif state.reply == _ACCEPTED:
        yield _client(ANSWERED_ACCEPTED), quiet._replace(accepted=True)
    else:
        yield _client("loses its connection before what it was told is stored"), quiet
        if state.reply == _POSTING:
            yield _client("'s post is stored", "posted"), quiet._replace(state=PENDING)
        elif state.state not in (COMPLETED, FAILED, CANCELLED):
            after, edges = _requested(quiet)
            yield _client("'s cancel is stored", *edges), after


def _cancel(state: State, shape: Shape, variant: Variant) -> _Moves:
    if state.state in (COMPLETED, FAILED):
        if variant is Variant.TOO_LATE_IS_ACCEPTED:
            yield _client(ANSWERED_ACCEPTED), state._replace(accepted=True)
        else:
            yield _client("cancels the job and is answered: too late"), state
    elif (state.requested and not state.expired) or state.state == CANCELLED:
        yield _client("cancels the job and is answered: already requested"), state
    elif variant is Variant.ANSWER_FIRST:
        told = state._replace(accepted=True, reply=_CANCELLING)
        yield _client("cancels the job, and is answered: accepted; nothing is stored yet"), told
    elif variant is Variant.CANCEL_ONLY_SIGNALLED:
        if not state.accepted:
            yield from _signal(state._replace(accepted=True))
    else:
        after, edges = _requested(state)
        yield (
            _client("cancels the job; stored", *edges),
            (after._replace(reply=_ACCEPTED) if shape.late_answers else after._replace(accepted=True)),
        )


def _signal(state: State) -> _Moves:
    yield _client("cancels the job by a signal that nobody hears; is answered: accepted"), state
    for holder in state.holders:
        if holder.runner is not None and holder.runner.current:
            heard = holder._replace(runner=holder.runner._replace(event=True))
            yield _client("cancels the job by a signal; is answered: accepted"), state.with_holder(heard)


def _requested(state: State) -> tuple[State, tuple[str, ...]]:
    """The request is recorded, perhaps in place of a limit's; of what has begun nothing, that is its end."""
    state = state._replace(requested=True, expired=False)
    if state.state in (PENDING, PAUSED):
        if not _begun(state):
            return state._replace(state=CANCELLED, interruptions=0), ("cancelled_unclaimed",)
        if state.state == PAUSED:
            return state._replace(state=PENDING), ("resumed",)
    if state.held:
        return state._replace(state=PENDING, interruptions=0, held=False), ("unparked",)
    return state, ()


def _begun(state: State) -> bool:
    return state.record != NEVER * len(state.record)


def _pause(state: State) -> _Moves:
    if state.state == PENDING and not state.requested:
        yield _client("pauses the job", "paused"), state._replace(state=PAUSED)
    elif state.state == RUNNING and not state.requested and not state.pausing:
        yield _client("asks for a pause"), state._replace(pausing=True)
    elif state.state == PAUSED:
        yield _client("resumes the job", "resumed"), state._replace(state=PENDING)


def _repair(state: State) -> _Moves:
    gone_on = state._replace(state=PENDING, interruptions=0, held=False)
    asked = state.requested and not state.expired
    if state.held:
        # What has failed begins again as if its runner had died in it.
        again = gone_on._replace(record=state.record.replace(RAISED, INTERRUPTED))
        yield _client("has the job go on from its failure", "unparked"), again
    elif asked and not _begun(state):
        ended = gone_on._replace(state=CANCELLED)
        yield _client("unparks the job", "unparked", "cancelled_unclaimed"), ended
    else:
        yield _client("unparks the job", "unparked"), gone_on
    edge, target = ("accepted_as_cancelled", CANCELLED) if asked else ("accepted_as_failed", FAILED)
    accepted = state._replace(state=target, interruptions=0, held=False)
    yield _client("accepts the job as it is", edge), accepted


def _next_attempt(state: State) -> State:
    return state._replace(
        state=PENDING,
        attempt=state.attempt + 1,
        requested=False,
        expired=False,
        pausing=False,
        interruptions=0,
        record=NEVER * len(state.record),
        effects=0,
        accepted=False,
        reply="",  # of the attempt before
    )
