"""Redactor: what it was told of is in none of the texts it has seen, in whatever form."""

import json
import threading
import warnings
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.redaction import Redactor, any_active, redact_active

# Texts that are nearly what hides others, and nearly one another.
NEAR = st.text("*ab", min_size=4, max_size=8)
SECRETS = st.text(min_size=4) | NEAR
AROUND = st.text() | st.text("*ab")


def forms(secret: str) -> list[str]:
    quoted = json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret)
    once = [secret, *(form[1:-1] for form in quoted)]
    twice = [json.dumps(form)[1:-1] for form in once]
    return [*once, *twice, quote(secret), quote(secret, safe=""), quote_plus(secret)]


@given(SECRETS, AROUND, AROUND)
@example("a***", "a", "")
@example("x***y", "x", "y")
@example("****", "*", "*")
@example("aaaa", "aa", "a")
def test_whatever_stands_around_a_secret_it_is_hidden(secret, before, after):
    redactor = Redactor({"env:A": secret})

    for form in forms(secret):
        shown = redactor.redact(before + form + after)
        assert secret not in shown and form not in shown
        assert redactor.redact(shown) == shown


@given(SECRETS, SECRETS, AROUND)
def test_of_two_secrets_that_overlap_both_are_hidden(one, other, between):
    redactor = Redactor({"env:A": one, "env:B": other})

    for text in (one + other, one + between + other, one[:-1] + other, other + one[1:]):
        shown = redactor.redact(text)
        assert one not in shown and other not in shown


@given(SECRETS, AROUND)
def test_a_text_without_a_secret_stays_as_it_is(secret, text):
    redactor = Redactor({"env:A": secret})

    if redactor.found(text) is None:
        assert redactor.redact(text) == text
    else:
        assert redactor.found(text) == "env:A"


@given(SECRETS, AROUND, AROUND, st.integers(0, 40))
def test_a_cut_leaves_no_part_of_a_secret(secret, before, after, limit):
    whole = before + secret + after
    shown = Redactor({"env:A": secret}).redact(whole, limit)

    assert secret not in shown
    assert len(shown) <= limit + len("***")
    at = whole.find(secret)
    if at < limit < at + len(secret) and before.find(secret[0]) < 0:
        assert shown.endswith("***")


def test_a_secret_that_reaches_beyond_the_cut_is_hidden_from_its_beginning():
    redactor = Redactor({"env:A": "hunter2"})

    assert redactor.redact("0123456789hunter2 and more", 12) == "0123456789***"
    assert redactor.redact("hunter2 hunter2 hunter2", 17) == "*** *** ***"


def test_lines_of_a_secret_are_hidden_one_by_one_but_for_the_armour_of_a_key():
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\r\n  kqhkiG9w0B  \n}\n-----END PRIVATE KEY-----"
    redactor = Redactor({"file:/key": key})

    shown = [redactor.redact(f"> {line} <") for line in key.split("\n")]

    assert shown == [
        "> -----BEGIN PRIVATE KEY----- <",
        "> ***\r <",
        ">   ***   <",
        "> } <",
        "> -----END PRIVATE KEY----- <",
    ]
    assert redactor.redact(f"a {key} b") == "a *** b"
    assert redactor.redact(repr({"key": key})) == "{'key': '***'}"


def test_what_overlaps_or_touches_is_hidden_as_one():
    redactor = Redactor({"env:A": "abcd", "env:B": "cdef"})

    assert redactor.redact("<abcdef>") == "<***>"
    assert redactor.redact("<abcdcdef>") == "<***>"
    assert redactor.redact("<abcd.cdef>") == "<***.***>"


def test_it_names_the_reference_of_what_it_found():
    redactor = Redactor({"env:A": 'pa"ss', "file:/b": "naïve"})

    assert redactor.found(json.dumps(['pa"ss'])) == "env:A"
    assert redactor.found(json.dumps({"naïve": 1})) == "file:/b"
    assert redactor.found("nothing") is None


def test_without_secrets_nothing_is_hidden():
    assert Redactor().redact("*** hunter2") == "*** hunter2"
    assert Redactor().redact("0123456789", 4) == "0123"
    assert Redactor().found("") is None


def test_what_is_too_short_to_be_told_from_other_text_is_no_form_of_a_secret():
    assert Redactor({"env:A": "abc"}).redact("abcabc") == "abcabc"


def test_secrets_are_hidden_in_the_whole_process_while_their_run_goes_on():
    one, other = Redactor({"env:A": "hunter2"}), Redactor({"env:B": "s3cret"})

    with one.active():
        with other.active():
            assert redact_active("hunter2 s3cret") == "*** ***"
        assert redact_active("hunter2 s3cret") == "*** s3cret"
        seen = []
        thread = threading.Thread(target=lambda: seen.append(redact_active("hunter2")))
        thread.start()
        thread.join()
        assert seen == ["***"] and any_active()
    assert redact_active("hunter2") == "hunter2"
    with Redactor().active():
        assert not any_active()


def test_an_error_ends_it_as_well():
    with pytest.raises(ValueError), Redactor({"env:A": "hunter2"}).active():
        raise ValueError
    assert not any_active()


SECRET = "it's a sécret/of mine"


@pytest.mark.parametrize(
    "text",
    [
        repr(f'"{SECRET}"'),
        ascii(SECRET),
        repr(SECRET.encode()),
        quote(SECRET).replace("%C3", "%c3").replace("%A9", "%a9"),
        json.dumps(SECRET).replace("/", "\\/"),
    ],
)
def test_a_secret_is_found_as_python_json_and_urls_write_it(text):
    shown = Redactor({"env:A": SECRET}).redact(text)

    assert "cret" not in shown
    assert "***" in shown
