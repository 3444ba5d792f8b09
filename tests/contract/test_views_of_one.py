"""Finding one job by what somebody typed, and reading its history, lines, tasks and result."""

import json

import pytest

from ebbtide.errors import AmbiguousJob, EdgeRefused, JobNotFound
from ebbtide.jobs import tables
from ebbtide.jobs.states import JobState
from ebbtide.jobs.views import Views

IDS = [
    "12345678-0000-4000-8000-000000000000",
    "12345678-0000-4000-8000-000000000001",
    "1234abcd-0000-4000-8000-000000000000",
    "ffffffff-ffff-4fff-bfff-ffffffffffff",
]


@pytest.fixture
def shown(store) -> Views:
    return Views(store)


@pytest.fixture
def jobs(board) -> list[str]:
    return [board.put(JobState.PENDING, id=job) for job in IDS]


# -- prefixes


@pytest.mark.parametrize(
    ("prefix", "job"),
    [(job, job) for job in IDS]
    + [
        ("f", IDS[3]),
        ("FFFFFFFF", IDS[3]),
        ("1234a", IDS[2]),
        ("1234ABCD-", IDS[2]),
        (IDS[0][:-1] + "1", IDS[1]),
        (IDS[3][:-1], IDS[3]),
    ],
)
def test_a_prefix_that_one_job_has_is_that_job(shown, jobs, prefix, job):
    assert shown.resolve(prefix) == job


@pytest.mark.parametrize("prefix", ["1", "1234", "12345678", "12345678-0000-4000-8000-00000000000"])
def test_a_prefix_of_several_jobs_names_them(shown, jobs, prefix):
    with pytest.raises(AmbiguousJob) as caught:
        shown.resolve(prefix)

    assert caught.value.matches == [job for job in IDS if job.startswith(prefix)]
    assert caught.value.prefix == prefix


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-",
        "2",
        "0",
        "ffffffff-ffff-4fff-bfff-fffffffffffff",
        "12345678 ",
        " 12345678",
        "12345678\n",
        "12345678\0",
        "%",
        "_",
        "1234%",
        "*",
        "../../etc/passwd",
        "/etc/passwd",
        "~/jobs",
        "file:///etc/passwd",
        "' OR '1'='1",
        "1234' OR 1=1 --",
        "12345678; DROP TABLE jobs",
        "0x1234",
        "g",
        "\uff11\uff12\uff13\uff14",  # digits, but not those of an id
        "ﬀ",
        "İ",
        "\ud800",
        "😀",
        "None",
        "f" * 37,
        "f" * 10**6,
        "1" * 10**6,
        "\x1b[31m",
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_what_is_no_prefix_of_any_job_is_not_found_in_one_printable_line(shown, jobs, text):
    with pytest.raises(JobNotFound) as caught:
        shown.resolve(text)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200
    assert caught.value.job_id == text


def test_in_an_empty_store_nothing_is_found(shown):
    with pytest.raises(JobNotFound):
        shown.resolve("f")


# -- history


def test_the_history_is_paged_by_its_numbers(board, shown):
    job = board.post()
    board.ledger.cancel(job, reason="é\n", who="bob")
    whole = shown.entries(job)

    assert [entry.number for entry in whole] == [1, 2, 3]
    assert [entry.name for entry in whole] == ["posted", "cancel_requested", "cancelled_unclaimed"]
    for after in range(5):
        assert shown.entries(job, after) == whole[after:]


def test_an_entry_as_a_dict_is_json_with_iso_times(board, shown):
    job = board.post()
    board.ledger.cancel(job, reason="é\n", who="bob")

    told = json.loads(json.dumps([entry.as_dict() for entry in shown.entries(job)]))

    assert [each["at"] for each in told] == ["2023-11-14T22:13:20.000Z"] * 3
    assert [(each["from_state"], each["to_state"]) for each in told] == [
        (None, "pending"),
        (None, None),
        ("pending", "cancelled"),
    ]
    assert told[1]["detail"] == {"reason": "é\n", "source": "user"}


def test_the_history_of_one_job_holds_nothing_of_another(board, shown):
    one, other = board.post(), board.post()
    board.ledger.cancel(other, reason="", who="bob")

    assert len(shown.entries(one)) == 1


# -- lines


def test_lines_are_paged_by_number_and_limit(board, shown):
    job, other = board.post(), board.post()
    for number in range(1, 8):
        line = {"number": number, "at": 1.0, "attempt": 1, "task": "scan", "level": "info"}
        board.add(tables.job_logs, job=job, text=f"line {number}", **line)
        board.add(tables.job_logs, job=other, text="not mine", **line)

    def texts(**page: int) -> list[str]:
        return [line.text for line in shown.logs(job, **page)]

    assert texts() == [f"line {number}" for number in range(1, 8)]
    assert texts(limit=3) == ["line 1", "line 2", "line 3"]
    assert texts(after=3, limit=2) == ["line 4", "line 5"]
    assert texts(after=6) == ["line 7"]
    assert texts(after=7) == []
    assert shown.logs(job, after=6)[0].as_dict() == {
        "number": 7,
        "at": "1970-01-01T00:00:01.000Z",
        "attempt": 1,
        "task": "scan",
        "level": "info",
        "text": "line 7",
    }


# -- tasks


def test_tasks_are_listed_in_the_order_they_began_of_one_attempt_or_all(board, shown):
    job = board.put(JobState.RUNNING, attempt=2)
    for attempt, task in ((1, "z"), (1, "a"), (2, "m"), (2, "b")):
        board.add_task(job, task, attempt=attempt, how="returned", fraction=1.0)

    assert [(each.attempt, each.task) for each in shown.tasks(job)] == [
        (1, "z"),
        (1, "a"),
        (2, "m"),
        (2, "b"),
    ]
    assert [each.task for each in shown.tasks(job, 2)] == ["m", "b"]
    assert shown.tasks(job, 3) == []
    told = shown.tasks(job, 2)[0].as_dict()
    assert (told["task"], told["how"], told["begun_at"]) == ("m", "returned", "2023-11-14T22:13:20.000Z")
    assert json.loads(json.dumps(told)) == told


# -- result


@pytest.mark.parametrize("value", [None, 0, False, "", [], {"files": ["é"]}])
def test_the_result_of_a_completed_job_is_that_of_its_last_attempt(board, shown, value):
    job = board.put(JobState.COMPLETED, attempt=2)
    outcome = {"state": "completed", "undo": "none", "ended_at": 1.0}
    board.add(tables.job_outcomes, job=job, attempt=1, **outcome, result='"old"')
    board.add(tables.job_outcomes, job=job, attempt=2, **outcome, result=json.dumps(value))

    assert shown.result(job) == value


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.COMPLETED}))
def test_what_has_not_completed_has_no_result(board, shown, state):
    job = board.put(state)
    board.add(tables.job_outcomes, job=job, attempt=1, state=state, undo="none", ended_at=1.0, result="1")

    with pytest.raises(EdgeRefused) as caught:
        shown.result(job)

    assert (caught.value.job_id, caught.value.state, caught.value.edge) == (job, state, "result")
