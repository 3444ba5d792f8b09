"""Where the runner finds a secret, and what it says when it finds none: the reference, never the secret."""

import os
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.secrets import Resolved, resolve
from ebbtide.flows import Secret
from ebbtide.tasks.run import Missing

ENVIRONMENT = {
    "TOKEN": "hunter2",
    "LINES": "one\ntwo\n",
    "SHORT": "abc",
    "EMPTY": "",
    "BYTES": "hunter2\udcff",
}


def found(reference: str) -> Resolved:
    return resolve({"token": Secret(reference)}, ENVIRONMENT)


def problem(reference: str) -> str:
    resolved = found(reference)
    assert resolved.problem is not None
    assert resolved.values["token"] == Missing(resolved.problem)
    assert resolved.problem.startswith(f"the secret {reference} of parameter 'token' cannot be used: ")
    assert "hunter2" not in resolved.problem and "\n" not in resolved.problem
    return resolved.problem


@pytest.fixture
def file(tmp_path):
    def write(data: bytes, name: str = "token") -> str:
        (tmp_path / name).write_bytes(data)
        return f"file:{tmp_path / name}"

    return write


def test_a_variable_is_taken_as_it_stands():
    assert found("env:TOKEN").values == {"token": "hunter2"}
    assert found("env:LINES").values == {"token": "one\ntwo\n"}
    assert found("env:TOKEN").problem is None


def test_the_variables_are_those_of_this_process_now(monkeypatch):
    monkeypatch.setenv("A_TOKEN_OF_THIS_TEST", "hunter2")

    assert resolve({"token": Secret("env:A_TOKEN_OF_THIS_TEST")}).values == {"token": "hunter2"}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"hunter2\n\n", "hunter2\n"),
        (b" hunter2 ", " hunter2 "),
        (b"hunter2\r", "hunter2\r"),
        ("naïve \N{SNOWMAN}".encode(), "naïve \N{SNOWMAN}"),
        (b"x" * 65536, "x" * 65536),
    ],
)
def test_a_file_is_taken_without_one_newline_at_its_end(file, data, text):
    assert found(file(data)).values == {"token": text}


def test_other_values_stay_as_they_are_and_share_nothing_with_secrets():
    values = {"folder": Path("/data"), "token": Secret("env:TOKEN"), "text": "env:TOKEN", "nothing": None}

    resolved = resolve(values, ENVIRONMENT)

    assert resolved.values == values | {"token": "hunter2"}
    assert values["token"] == Secret("env:TOKEN")


def test_what_was_found_is_known_to_the_redactor():
    resolved = resolve({"one": Secret("env:TOKEN"), "two": Secret("env:NONE")}, ENVIRONMENT)

    assert resolved.redactor.redact("hunter2") == "***"
    assert resolved.redactor.found("hunter2") == "env:TOKEN"
    assert resolved.values["one"] == "hunter2"
    assert "env:NONE" in resolved.problem and "env:TOKEN" not in resolved.problem


def test_every_secret_that_is_missing_is_named_in_one_line():
    resolved = resolve({"one": Secret("env:NONE"), "two": Secret("file:/no/such")}, ENVIRONMENT)

    assert "env:NONE of parameter 'one'" in resolved.problem
    assert "file:/no/such of parameter 'two'" in resolved.problem
    assert "\n" not in resolved.problem


@pytest.mark.parametrize(
    ("place", "reference", "given"),
    [
        ("env:TOKEN", "env:TOKEN", True),
        ("env:TOK", "env:TOKEN", False),
        ("env:TOK*", "env:TOKEN", True),
        ("env:TOKEN*", "env:TOKEN", True),
        ("env:LINES", "env:TOKEN", False),
        ("file:/TOKEN", "env:TOKEN", False),
        ("file:FOLDER/", "file:FOLDER/token", True),
        ("file:FOLDER/token", "file:FOLDER/token", True),
        ("file:FOLDER/tok", "file:FOLDER/token", False),
        ("file:FOLDER/below/", "file:FOLDER/token", False),
        ("file:FOLDER/below/", "file:FOLDER/below/../token", False),
        ("file:FOLDER/", "file:FOLDER/./token", False),
        ("env:TOKEN", "file:FOLDER/token", False),
    ],
)
def test_a_job_is_given_no_secret_but_those_that_its_conductor_was_told(tmp_path, place, reference, given):
    (tmp_path / "below").mkdir()
    (tmp_path / "token").write_text("hunter2")
    place, reference = (text.replace("FOLDER", str(tmp_path)) for text in (place, reference))

    resolved = resolve({"token": Secret(reference)}, ENVIRONMENT, allowed=("env:OTHER", place))

    if given:
        assert resolved.values == {"token": "hunter2"}
    else:
        assert "secret_references of the conductor does not have it" in resolved.problem
        assert "hunter2" not in resolved.problem


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("env:NONE", "the conductor was started without it; set it there and try again"),
        ("env:EMPTY", "fewer than 4 characters"),
        ("env:SHORT", "fewer than 4 characters"),
        ("env:BYTES", "no UTF-8 text"),
        ("file:/no/such/file", "no such file or directory; mend that where the conductor runs"),
        ("file:/", None),
    ],
)
def test_a_variable_or_file_that_is_not_there_or_will_not_do_is_named(reference, told):
    if told is None:
        with pytest.raises(ValueError, match="reference"):
            Secret(reference)
    else:
        assert told in problem(reference)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no regular file with something in it"),
        (b"\n", "fewer than 4 characters"),
        (b"abc\n", "fewer than 4 characters"),
        (b"hunter2\xff", "no UTF-8 text"),
        (b"x" * 65537, "more than 64 KiB"),
    ],
)
def test_a_file_that_will_not_do_is_named(file, data, told):
    assert told in problem(file(data))


def test_a_link_is_not_followed_at_the_end_of_a_path_but_before_it(file, tmp_path):
    reference = file(b"hunter2", "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").symlink_to(tmp_path)

    assert "it is a symbolic link" in problem(f"file:{tmp_path}/link")
    assert found(f"file:{tmp_path}/folder/real").values == found(reference).values == {"token": "hunter2"}


def test_a_pipe_a_folder_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        assert "no regular file" in problem(f"file:{path}")


def test_the_environment_of_a_process_is_not_to_be_had_through_a_file():
    assert "no regular file with something in it" in problem("file:/proc/self/environ")


def test_a_file_that_may_not_be_read_is_named(file, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("ebbtide.conductor.secrets.os.open", refuse)

    assert "permission denied; mend that where the conductor runs" in problem("file:/etc/token")


def test_no_file_is_left_open(file):
    before = len(os.listdir("/proc/self/fd"))
    for reference in (file(b"hunter2"), file(b"", "empty"), file(b"\xff" * 9, "bytes")):
        found(reference)

    assert len(os.listdir("/proc/self/fd")) == before
