"""The word by which a program learns what became of its wish. P4."""

import pytest

from ebbtide.cli.exits import answer_word
from ebbtide.errors import (
    AnswerLost,
    CommitUnknown,
    JobNotFound,
    StoreBusy,
    StoreUnavailable,
    TooLate,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (JobNotFound("7f3a"), "unknown"),
        (TooLate("7f3a", "completed"), "refused"),
        (AnswerLost("7f3a", "it went away"), "stored"),
        (CommitUnknown("it went away"), "not known"),
        (StoreBusy("a deadlock"), "not stored"),
        (StoreUnavailable("it is away"), "not stored"),
        (UsageError("so not"), "wrong"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_what_is_stored_is_never_called_not_stored(error, word):
    assert answer_word(error) == word
