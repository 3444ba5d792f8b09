"""The protocol as it is, and ways to get it wrong: each a switch of the model, and nothing else."""

from __future__ import annotations

import enum

__all__ = ["Variant"]


class Variant(enum.Enum):
    """What is different from the protocol."""

    RIGHT = "nothing: the protocol"
    NO_FENCE = "a run's commits do not ask for its epoch"
    OUTCOME_IGNORES_REQUEST = "the outcome `completed` does not ask for a cancel request"
    ANSWER_FIRST = "clients are answered before the commit"
    TOO_LATE_IS_ACCEPTED = "a cancel that comes too late is answered: accepted"
    ONLY_BEGUN_MARKED = "the turn marks only what has begun, and nothing else keeps a task from beginning"
    BOARDS_WORD = "a holder is taken for dead because a board says so"
    UNDO_BEFORE_DEATH = "an overdue run is taken up again before its runner is proven dead"
    CANCEL_ONLY_SIGNALLED = "a cancel rings the signal and records nothing"
    NEVER_LOOKED_UP = "no sweep, and commits do not bring the request back"
    NAME_AS_OWNER = "a conductor's name is its owner id: started again, it is the old one"
    EDGE_WITHOUT_ENTRY = "a run leaves its job by an edge, and stores no entry of it"
    COUNTS_NOTHING = "interruptions are not counted"
    LOST_ANSWER_IS_NO_ANSWER = "a commit whose answer was lost counts as not stored, without reading back"
