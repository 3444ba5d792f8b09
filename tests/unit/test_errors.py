"""Errors: one line that a person can act on, an exit code per family, intact after pickling."""

import inspect
import pickle

import pytest

from ebbtide import errors
from ebbtide.wording import hide_password, one_line

JOB = "7f3a3c1e-0000-4000-8000-000000000000"

SAMPLES = [
    errors.EbbtideError("something went wrong"),
    errors.UsageError("no such verb"),
    errors.ConfigError("runners in the call: 'x' is not a whole number from 1 to 512"),
    errors.FolderRefused("cancellations", "others may write there: chmod 700 it"),
    errors.ParameterError("file-processing", [("source", "is required"), ("count", "is not a number")]),
    errors.PayloadTooLarge("the parameters", 2_000_000, 1_000_000),
    errors.AmbiguousJob("7f", [JOB, "7f00"]),
    errors.FlowRefused("file-processing", "task scan cannot be cancelled"),
    errors.NotFound("nothing there"),
    errors.JobNotFound(JOB),
    errors.SavepointNotReached(JOB, "half-way", ["begun"]),
    errors.TokenNotFound("7f3a"),
    errors.NotAllowed("ann is a viewer; this wants the role operator"),
    errors.FlowNotFound("file-procesing", ["file-processing", "other"]),
    errors.Conflict("not now"),
    errors.TooLate(JOB, "completed"),
    errors.EdgeRefused(JOB, "running", "retried"),
    errors.SavepointNotReached(JOB, "checked", ["scanned"]),
    errors.KeyBusy("deploy", [JOB]),
    errors.ParentEnding(JOB, "running"),
    errors.KeyReused("order 17", JOB),
    errors.StoreUnavailable("disk I/O error"),
    errors.StoreBusy("deadlock detected"),
    errors.CommitUnknown("server closed the connection unexpectedly"),
    errors.AnswerLost("7f3a", "disk I/O error"),
    errors.SchemaMismatch("sqlite:///jobs.db", "0001", "0002", "older"),
    errors.NotADatabase("notes.txt", "file is not a database"),
    errors.ClaimLost(JOB, 3),
]


def named(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", SAMPLES, ids=named)
def test_an_error_survives_pickling_with_message_and_attributes(error):
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("error", SAMPLES, ids=named)
def test_a_message_is_one_line_of_lower_case(error):
    message = str(error)

    assert message
    assert message.isprintable()
    assert message[0] == message[0].lower()
    assert not message.endswith(".")


def test_every_error_class_has_a_sample_above():
    defined = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.EbbtideError)
    }

    assert defined == {type(error) for error in SAMPLES}


@pytest.mark.parametrize("error", SAMPLES, ids=named)
def test_the_family_decides_the_exit_code(error):
    codes = {
        errors.UsageError: 2,
        errors.NotFound: 3,
        errors.Conflict: 4,
        errors.NotAllowed: 4,
        errors.StoreUnavailable: 5,
    }

    expected = [code for family, code in codes.items() if isinstance(error, family)] or [1]

    assert [error.exit_code] == expected


def test_messages_say_what_which_one_and_what_now():
    told = {named(error): str(error) for error in SAMPLES}

    assert told["EdgeRefused"] == (
        f"job {JOB} cannot be retried: it is running, and only a failed or cancelled job can"
    )
    assert told["TooLate"] == f"job {JOB} is already completed: too late to cancel it"
    assert "source: is required; count: is not a number" in told["ParameterError"]
    assert "did you mean file-processing?" in told["FlowNotFound"]
    assert "flow_modules" in str(errors.FlowNotFound("book", ["file-processing"]))
    assert "ebbtide db upgrade" in told["SchemaMismatch"]
    assert "--database" in told["NotADatabase"]
    assert "2000000 bytes" in told["PayloadTooLarge"]


def test_an_empty_id_is_said_to_be_empty():
    assert str(errors.JobNotFound(" ")).startswith("the id of a job is empty;")


@pytest.mark.parametrize("state", ["older", "newer", "foreign", "damaged"])
@pytest.mark.parametrize("found", ["0000", None])
def test_only_an_older_schema_is_said_to_be_upgraded(state, found):
    told = str(errors.SchemaMismatch("sqlite:///jobs.db", found, "0001", state))

    assert ("ebbtide db upgrade" in told) == (state == "older")
    newer = state == "newer" or (state, found) == ("foreign", "0000")
    assert ("a newer ebbtide is needed" in told) == newer


def test_a_message_neither_breaks_the_line_nor_speaks_to_the_terminal():
    error = errors.JobNotFound("a\n\x1b[31mb\x00' OR 1=1--\u202e")

    assert str(error).isprintable()
    assert error.job_id.startswith("a\n")


def test_a_message_does_not_repeat_a_payload():
    error = errors.FlowNotFound("x" * 1_000_000, [f"flow-{number}" for number in range(1000)])

    assert len(str(error)) < 1000


def test_no_error_keeps_the_password_of_a_database():
    url = "postgresql://ebb:s3cret@db/jobs"

    found = [
        errors.SchemaMismatch(url, None, "0001"),
        errors.StoreUnavailable(f"could not connect to {url}: refused"),
        errors.NotADatabase("x", url),
        errors.ConfigError(f"no such driver: {url}"),
    ]

    for error in found:
        assert "s3cret" not in str(error) + repr(error) + repr(vars(error))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg2://u:p@h:5432/db", "postgresql+psycopg2://u:***@h:5432/db"),
        ("postgresql://u:p@ss/wo@h/db", "postgresql://u:***@h/db"),
        ("redis://:p@h", "redis://:***@h"),
        ("postgresql://h/db?user=u&password=p&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("host=h password=p user=u", "host=h password=*** user=u"),
        ("sqlite:////var/lib/a:b@c.db", "sqlite:////var/lib/a:b@c.db"),
        ("at 10:30 by u@h", "at 10:30 by u@h"),
    ],
)
def test_a_password_is_hidden_wherever_a_url_may_hold_it(text, shown):
    assert hide_password(text) == shown
    assert hide_password(shown) == shown


def test_a_long_text_is_cut_with_a_mark():
    assert one_line("word " * 100, 20) == "word word word wo..."
    assert one_line("  fits \n well ", 20) == "fits well"
