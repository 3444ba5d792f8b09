"""What is captured of a task's lines, and what is not: the secrets of its run, however they are written."""

import io
import logging
import warnings

import pytest

from ebbtide.cli import conductor as cli_conductor

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor import capture
    from ebbtide.conductor.capture import MAX_LINE, LogBuffer, capturing
    from ebbtide.conductor.redaction import Redactor

SECRET = "hunter2-hunter3"
REDACTOR = Redactor({"env:TOKEN": SECRET})


def lines(buffer: LogBuffer) -> list[str]:
    return [line["text"] for line in buffer.take()[0]]


@pytest.fixture
def buffer():
    return LogBuffer("7f3a", 1, 0, 100, REDACTOR)


@pytest.fixture
def out():
    """stdout as a runner has it."""
    passed_on = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    return capture._CaptureStream(passed_on, "stdout")


@pytest.fixture
def records(monkeypatch):
    """A logger whose records lose their secrets; what a handler of a user's makes of them."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(capture._Records(before))
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("ebbtide-test-capture")
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "propagate", False)
    yield logger, stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(before)


def test_a_line_that_is_printed_is_without_the_secret(buffer, out):
    with capturing(buffer, "a"):
        print(f"with {SECRET}!", file=out)
        print({"token": SECRET}, file=out)

    assert lines(buffer) == ["with ***!", "{'token': '***'}"]


def test_a_line_that_is_printed_in_parts_is_without_the_secret(buffer, out):
    with capturing(buffer, "a"):
        for part in ("with ", SECRET[:4], SECRET[4:9], SECRET[9:], "!\nlast ", SECRET[:7]):
            print(part, end="", file=out)
        print(SECRET[7:], end="", file=out)

    assert lines(buffer) == ["with ***!", "last ***"]


@pytest.mark.parametrize("before", range(MAX_LINE - len(SECRET) - 1, MAX_LINE + 2))
@pytest.mark.parametrize("parts", [1, 3])
def test_a_line_that_is_cut_keeps_no_part_of_a_secret(buffer, out, before, parts):
    text = "x" * before + SECRET + "y" * 50
    step = len(text) // parts + 1
    with capturing(buffer, "a"):
        for start in range(0, len(text), step):
            print(text[start : start + step], end="", file=out)
        print(file=out)

    (line,) = lines(buffer)
    if before < MAX_LINE:
        assert line == ("x" * before + "***" + "y" * (MAX_LINE - before - len(SECRET)))[:MAX_LINE]
    else:
        assert line == "x" * MAX_LINE


def test_an_endless_line_takes_no_memory(buffer, out):
    with capturing(buffer, "a"):
        for _ in range(1000):
            print("x" * 1000, end="", file=out)
            assert len(capture._here.get().partial["stdout"]) <= MAX_LINE + REDACTOR.longest


def test_bytes_that_are_printed_are_without_the_secret(buffer, out):
    with capturing(buffer, "a"):
        out.buffer.write(f"with {SECRET}\n".encode())

    assert lines(buffer) == ["with ***"]


def test_what_a_thread_of_a_task_s_own_prints_is_passed_on_without_the_secret(out):
    with REDACTOR.active():
        assert out.write(f"with {SECRET}\n") == len(SECRET) + 6
        assert out.buffer.write(f"with {SECRET}\n".encode() + b"\xff\n") == len(SECRET) + 8

    assert out._stream.buffer.getvalue() == b"with ***\nwith ***\n\xff\n"


def test_a_run_without_secrets_captures_lines_as_they_are():
    buffer = LogBuffer("7f3a", 1, 0, 100)

    buffer.add("a", "info", f"with {SECRET}")
    buffer.add("a", "info", "x" * 5000)

    assert lines(buffer) == [f"with {SECRET}", "x" * MAX_LINE]


def test_a_log_record_has_lost_the_secret_before_any_handler_sees_it(records):
    logger, stream = records
    with REDACTOR.active():
        logger.warning("token %s of %d %%", SECRET, 7)
        logger.warning(f"100% {SECRET}")
        logger.warning({"token": SECRET})
        logger.warning("no secret in %s", "this")

    assert stream.getvalue().splitlines() == [
        "WARNING token *** of 7 %",
        "WARNING 100% ***",
        "WARNING {'token': '***'}",
        "WARNING no secret in this",
    ]


def test_a_traceback_has_lost_the_secret_before_any_handler_sees_it(records):
    logger, stream = records
    with REDACTOR.active():
        try:
            try:
                raise KeyError(SECRET)
            except KeyError as error:
                raise ValueError(f"bad {SECRET}") from error
        except ValueError:
            logger.exception("refused")

    told = stream.getvalue()
    assert SECRET not in told
    assert told.startswith("ERROR refused\nTraceback") and "KeyError: '***'" in told
    assert told.endswith("ValueError: bad ***\n")


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "lines"])
def test_the_conductor_s_own_log_shows_a_traceback_that_lost_the_secret(records, as_json):
    logger, stream = records
    formatter = cli_conductor._JsonLines() if as_json else cli_conductor._Lines("%(message)s")
    logger.handlers[0].setFormatter(formatter)
    with REDACTOR.active():
        try:
            raise ValueError(f"bad \x1b[31m {SECRET}")
        except ValueError:
            logger.exception("refused")

    told = stream.getvalue()
    assert SECRET not in told and "\x1b" not in told
    assert "Traceback" in told and "***" in told


def test_a_log_record_whose_arguments_do_not_fit_tells_of_them_without_the_secret(records, capsys):
    logger, stream = records
    with REDACTOR.active():
        logger.warning("token %d", SECRET)

    assert stream.getvalue() == (
        "WARNING a log message and arguments that do not fit it: token %d ('***',)\n"
    )
    assert capsys.readouterr().err == ""


def test_a_log_record_of_other_times_stays_as_it_is(records):
    logger, stream = records
    logger.warning("token %s", SECRET)

    assert stream.getvalue() == f"WARNING token {SECRET}\n"


def test_installing_twice_wraps_log_records_once(records):
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    try:
        capture.install(outputs=False)
        capture.install(outputs=False)
        made = logging.getLogRecordFactory()
    finally:
        logging.setLogRecordFactory(before)

    assert isinstance(made, capture._Records) and not isinstance(made._make, capture._Records)
