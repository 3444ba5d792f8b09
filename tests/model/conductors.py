"""What conductors and their keepers do: claim, take over, forward, drain, renew, die, freeze, come back."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.jobs.claims import MAX_INTERRUPTIONS
from tests.model.state import (
    BEGUN,
    DEAD,
    DRAIN,
    FROZEN,
    INTERRUPTED,
    PARKED,
    PAUSE,
    PENDING,
    RAISED,
    RETURNED,
    RUNNING,
    SERVING,
    STUCK,
    TO_UNDO,
    UNDOING,
    UNDONE,
    Action,
    Holder,
    Runner,
    Shape,
    State,
)
from tests.model.variants import Variant

__all__ = ["LIMIT_PASSED", "backwards", "conductor_moves"]

LIMIT_PASSED = "records that its job has passed a limit"

_Moves = Iterator[tuple[Action, State]]

_BACKWARDS = str.maketrans(dict.fromkeys((RETURNED, RAISED, INTERRUPTED, UNDOING, STUCK), TO_UNDO))


def backwards(tasks: str) -> str:
    """As a run sees its tasks from its turn on: what has begun is to be undone."""
    return tasks.translate(_BACKWARDS)


def conductor_moves(state: State, shape: Shape, variant: Variant) -> _Moves:
    """All that conductors, keepers, time and faults may do now, but for what their runners do."""
    for holder in state.holders:
        if holder.doing == SERVING:
            yield from _serve(state, holder, shape, variant)
            yield from _fail(state, holder, shape)
        elif holder.doing == DEAD:
            yield from _keep(state, holder, variant)
        else:
            if holder.lease:
                yield _by(holder, "'s lease ends"), state.with_holder(holder._replace(lease=False))
            thawed = state.with_holder(holder._replace(doing=SERVING))
            yield _by(holder, "goes on after having stood still", own=False), thawed
    yield from _start(state, shape)


def _by(holder: Holder, verb: str, *edges: str, own: bool = True) -> Action:
    return Action(verb, holder.name, edges=edges, own=own)


# Claims.


def _serve(state: State, holder: Holder, shape: Shape, variant: Variant) -> _Moves:
    if not holder.lease:
        yield _by(holder, "finds its lease over, ends its runs, and begins anew"), _begun_anew(state, holder)
        return
    if holder.runner is None:
        if holder.holds:
            yield from _take_over(state, holder, holder, "takes its job up again", variant)
        else:
            yield from _claim(state, holder, shape, variant)
    elif holder.runner.current and not holder.runner.unknown:
        yield from _command(state, holder, holder.runner, variant)
        if shape.limits and state.state == RUNNING and holder.holds and not state.requested:
            expired = state._replace(requested=True, expired=True)
            yield _by(holder, LIMIT_PASSED, own=False), expired


def _claim(state: State, holder: Holder, shape: Shape, variant: Variant) -> _Moves:
    if state.state == PENDING:
        claimed = _entered(state, holder, variant, state.interruptions)
        yield _by(holder, "claims the job", "claimed"), claimed
        if shape.unknown_commits:
            unheard = claimed.with_holder(holder._replace(holds=True))
            yield _by(holder, "claims the job; the answer is lost", "claimed", own=False), unheard
        return
    if state.state != RUNNING:
        return
    for other in state.holders:
        if other.holds and other.name != holder.name:
            if not other.lease:
                verb = f"takes the job over from {other.name}, whose lease is over"
                yield from _take_over(state, holder, other, verb, variant)
            elif variant is Variant.BOARDS_WORD:
                verb = f"takes the job over from {other.name}, which a board calls dead"
                yield from _take_over(state, holder, other, verb, variant)


def _take_over(state: State, holder: Holder, before: Holder, verb: str, variant: Variant) -> _Moves:
    counts = before.given and variant is not Variant.COUNTS_NOTHING
    interruptions = state.interruptions + counts
    if counts and interruptions >= MAX_INTERRUPTIONS:
        parked = _without_owner(state)._replace(
            state=PARKED, record=_interrupted(state.record), interruptions=0, pausing=False
        )
        yield _by(holder, "parks the job: interrupted too often", "parked"), parked
        return
    yield _by(holder, verb, "reclaimed"), _entered(state, holder, variant, interruptions)


def _entered(state: State, holder: Holder, variant: Variant, interruptions: int) -> State:
    """The epoch is raised and the job given to a runner; whatever else runs it is stale."""
    record = _interrupted(state.record)
    back = any(letter in record for letter in (TO_UNDO, UNDOING, UNDONE, STUCK))
    runner = Runner(
        current=True,
        back=back,
        event=state.requested,
        stop=PAUSE if state.pausing else 0,
        tasks=backwards(record) if back else record,
    )
    holders = []
    for each in state.holders:
        stale = each.runner and _stale(each.runner, variant)
        if each.name == holder.name:
            if stale:  # it is not proven dead: it stays, as the run of nobody
                holders.append(each._replace(name=_free_name(state), doing=DEAD, holds=False, runner=stale))
            holders.append(each._replace(holds=True, given=True, runner=runner))
        else:
            holders.append(each._replace(holds=False, given=False, runner=stale))
    return state._replace(state=RUNNING, record=record, interruptions=interruptions, holders=_needed(holders))


def _stale(runner: Runner, variant: Variant) -> Runner:
    # Whatever it tries to store next is refused, and it stops: nothing else of it matters.
    return runner._replace(current=False) if variant is Variant.NO_FENCE else Runner(current=False)


def _interrupted(record: str) -> str:
    return record.replace(BEGUN, INTERRUPTED)


def _without_owner(state: State) -> State:
    return state._replace(
        holders=_needed([holder._replace(holds=False, given=False) for holder in state.holders])
    )


def _needed(holders: list[Holder]) -> tuple[Holder, ...]:
    """Without the dead of whom nothing is left."""
    return tuple([each for each in holders if each.doing != DEAD or each.holds or each.runner is not None])


# What a conductor tells its runner.


def _command(state: State, holder: Holder, runner: Runner, variant: Variant) -> _Moves:
    if state.requested and not runner.event and variant is not Variant.NEVER_LOOKED_UP:
        told = holder._replace(runner=runner._replace(event=True))
        yield _by(holder, "forwards the request to its runner"), state.with_holder(told)
    if state.pausing and not runner.stop:
        told = holder._replace(runner=runner._replace(stop=PAUSE))
        yield _by(holder, "tells its runner to pause"), state.with_holder(told)
    if not runner.stop:
        told = holder._replace(runner=runner._replace(stop=DRAIN))
        yield _by(holder, "drains", own=False), state.with_holder(told)
    if runner.event and BEGUN in runner.tasks:
        if variant is Variant.UNDO_BEFORE_DEATH:
            verb = "takes its overdue run up again"
            yield from _take_over(state, holder, holder._replace(given=False), verb, variant)
        else:
            ended = holder._replace(runner=None, given=False)
            yield _by(holder, "ends its overdue runner: proven dead"), state.with_holder(ended)


# Faults, and what follows them.


def _fail(state: State, holder: Holder, shape: Shape) -> _Moves:
    if not holder.lease or (not holder.holds and holder.runner is None):
        return  # the end of an idle conductor is nothing that it could not do by idling
    dead = [each._replace(doing=DEAD) if each.name == holder.name else each for each in state.holders]
    yield _by(holder, "is killed", own=False), state._replace(holders=_needed(dead))
    if holder.runner is not None:
        yield _by(holder, "'s runner dies", own=False), state.with_holder(holder._replace(runner=None))
    # One zombie at a time.
    if shape.freezes and all(each.lease for each in state.holders):
        frozen = holder._replace(doing=FROZEN)
        yield _by(holder, "stands still, with its tree", own=False), state.with_holder(frozen)


def _keep(state: State, holder: Holder, variant: Variant) -> _Moves:
    if holder.runner is not None:
        ended = [each._replace(runner=None) if each.name == holder.name else each for each in state.holders]
        yield _by(holder, "'s keeper ends its runner: proven dead"), state._replace(holders=_needed(ended))
    elif holder.lease:
        yield _by(holder, "'s keeper releases its lease"), state.with_holder(holder._replace(lease=False))
    if variant is Variant.NAME_AS_OWNER and holder.holds:
        again = holder._replace(doing=SERVING, lease=True, runner=None)
        holders = [again if each.name == holder.name else each for each in state.holders]
        if holder.runner is not None:
            old = Holder(_free_name(state), DEAD, runner=holder.runner)
            holders.append(old)
        yield _by(holder, "is started again under its old name"), state._replace(holders=tuple(holders))


def _begun_anew(state: State, holder: Holder) -> State:
    holders = [each for each in state.holders if each.name != holder.name]
    if holder.holds:
        holders.append(Holder(holder.name, DEAD, lease=False, holds=True, given=holder.given))
        state = state._replace(holders=tuple(holders))
        return state._replace(holders=(*holders, Holder(_free_name(state))))
    return state._replace(holders=(*holders, Holder(holder.name)))


def _start(state: State, shape: Shape) -> _Moves:
    alive = sum(each.doing != DEAD for each in state.holders)
    # What stands still may do so for ever; all others come to an end by themselves.
    moving = sum(each.doing != FROZEN for each in state.holders)
    if alive < shape.conductors and moving < shape.lives:
        new = Holder(_free_name(state))
        yield _by(new, "starts"), state._replace(holders=(*state.holders, new))


def _free_name(state: State) -> int:
    taken = {holder.name for holder in state.holders}
    return next(name for name in range(1, len(taken) + 2) if name not in taken)
