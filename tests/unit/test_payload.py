"""What may be stored: JSON and nothing else, refused before anything is written, in words that help."""

import collections
import decimal
import enum
import json
import math
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.tasks import PayloadError, payload
from ebbtide.tasks.payload import MAX_BYTES, MAX_DEPTH, decode, encode, storable

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


# Half surrogate pairs and NUL as well, and whatever else a task may return.
TEXTS = st.text(st.characters(codec=None))
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers().map(lambda power: 10 ** (power % 6000))
    | st.floats()
    | TEXTS
    | st.binary()
    | st.complex_numbers()
    | st.sets(st.integers()),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(TEXTS | st.integers() | st.none(), inner)
        | inner.map(lambda leaf: nested(MAX_DEPTH, leaf))
    ),
    max_leaves=20,
)


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


def refusal(value: Any, what: str = "the result of copy", **options: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        encode(value, what, **options)
    return str(caught.value)


def nested(levels: int, leaf: Any = None, step: str = "list") -> Any:
    """`leaf` inside so many lists or dicts."""
    value = leaf
    for _ in range(levels):
        value = {"a": value} if step == "dict" else (value,) if step == "tuple" else [value]
    return value


# -- what comes back


@given(VALUES)
def test_a_json_value_comes_back_as_it_was(value):
    text = encode(value, "it")

    assert decode(text) == value
    assert repr(decode(text)) == repr(value)  # 1 is not 1.0, and -0.0 is not 0.0
    assert text.isascii()


@given(VALUES)
def test_what_was_decoded_is_encoded_alike(value):
    text = encode(value, "it")

    assert encode(decode(text), "it") == text


@given(VALUES)
def test_decoding_gives_a_fresh_copy_each_time(value):
    text = encode([value], "it")

    first, second = decode(text), decode(text)

    assert first is not second
    assert first == second


def with_lists(value: Any) -> Any:
    """`value` with each tuple as the list that it becomes."""
    if isinstance(value, (list, tuple)):
        return [with_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: with_lists(item) for key, item in value.items()}
    return value


@given(ANYTHING)
def test_whatever_it_is_given_it_refuses_in_one_line_or_stores_so_that_it_comes_back(value):
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    try:
        text = encode(value, "it", max_bytes=2000)
    except PayloadError as refused:
        assert str(refused).startswith("it") and str(refused).isprintable()
        assert len(str(refused)) < 250
    else:
        assert text.isascii() and len(text) <= 2000
        json.loads(text, parse_constant=refuse)
        assert repr(decode(text)) == repr(with_lists(value))


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ((1, (2, ())), [1, [2, []]]),
        ({"a": (1,)}, {"a": [1]}),
        (Point(1, 2), [1, 2]),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (Colour.RED, "red"),
        ({Colour.RED: Size.SMALL}, {"red": 1}),
        (True, True),
        (1e308, 1e308),
        (2**64, 2**64),
    ],
)
def test_what_is_nearly_json_is_stored_as_json(value, back):
    assert repr(decode(encode(value, "it"))) == repr(back)


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\ud800", "caf\udce9.txt", "\udfff\ud800", "\x1b[31m", "\u2028"]
)
def test_odd_texts_come_back_as_they_were(text):
    """Names of files are such texts. A store never sees them: JSON escapes what is not ASCII."""
    stored = encode({text: text}, "it")

    assert decode(stored) == {text: text}
    assert stored.isascii()
    assert stored.isprintable()


# -- what is refused


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, "is nan, which JSON does not have"),
        (math.inf, "is inf, which JSON does not have"),
        (-math.inf, "is -inf, which JSON does not have"),
        (b"a", "is a bytes, which is not JSON"),
        ({1}, "is a set, which is not JSON"),
        (frozenset(), "is a frozenset, which is not JSON"),
        (object(), "is a object, which is not JSON"),
        (1j, "is a complex, which is not JSON"),
        (decimal.Decimal(1), "is a Decimal, which is not JSON"),
        (range(3), "is a range, which is not JSON"),
        ({1: 2}, "has the key 1: keys must be text"),
        ({None: 2}, "has the key None: keys must be text"),
        ({True: 2}, "has the key True: keys must be text"),
        ({(1, 2): 3}, "has the key of type tuple: keys must be text"),
        ({b"x" * 10**6: 3}, "has the key of type bytes: keys must be text"),
        ({10**5000: 3}, "has the key of type int: keys must be text"),
        (10**5000, "is an integer of more than 4,200 digits"),
        (-(10**5000), "is an integer of more than 4,200 digits"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_is_not_json_is_refused_by_name(value, told):
    assert refusal(value) == f"the result of copy {told}"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([1, {2}], "[1]"),
        ({"a": {"b": [0, 0, {2}]}}, "['a']['b'][2]"),
        ((((), {2}),), "[0][1]"),
        ({"a\nb": {2}}, "['a\\nb']"),
        ({"\ud800": {2}}, "['\\ud800']"),
        ({"k" * 500: {2}}, f"['{'k' * 40}']"),
    ],
)
def test_a_refusal_says_where_in_the_value(value, place):
    assert refusal(value, "it") == f"it{place} is a set, which is not JSON"


def test_where_in_the_value_is_told_in_few_words_however_deep_it_is():
    told = refusal(nested(90, {2}, "dict"), "it")

    assert told.startswith("it['a']['a']")
    assert told.endswith("... is a set, which is not JSON")
    assert len(told) < 200


def test_what_a_refusal_says_of_keys_can_be_hidden_before_it_is_cut():
    secret = "hunter2" * 20

    told = refusal({secret: {"k": {2}}}, "it", hide=lambda text: text.replace(secret, "***"))

    assert told == "it['***']['k'] is a set, which is not JSON"


@pytest.mark.parametrize("digits", [4200, 4210])
def test_an_integer_that_python_can_still_print_is_stored(digits):
    assert decode(encode(10**digits, "it")) == 10**digits


# -- depth


LEAVES: list[Any] = [None, "text", True, 1, 1.5, {}, []]


@pytest.mark.parametrize("step", ["list", "dict", "tuple"])
@pytest.mark.parametrize("leaf", LEAVES, ids=repr)
def test_a_hundred_levels_are_stored_and_one_more_is_refused_whatever_stands_in_them(leaf, step):
    own = 1 if isinstance(leaf, (dict, list)) else 0

    encode(nested(MAX_DEPTH - own, leaf, step), "it")

    assert refusal(nested(MAX_DEPTH - own + 1, leaf, step), "it") == "it is nested deeper than 100 levels"


@pytest.mark.parametrize("step", ["list", "dict"])
@pytest.mark.parametrize("levels", [101, 3000, 100_000])
def test_depth_is_refused_in_few_words_and_without_recursion(levels, step):
    assert refusal(nested(levels, 1, step)) == "the result of copy is nested deeper than 100 levels"


def test_a_value_that_contains_itself_is_refused():
    endless: dict[str, Any] = {}
    endless["me"] = [endless]

    assert "nested deeper" in refusal(endless)


def test_a_value_that_stands_in_two_places_is_no_circle():
    shared = [1]

    assert decode(encode([shared, shared], "it")) == [[1], [1]]


# -- size


def test_the_limit_is_that_of_the_stored_text_to_the_byte():
    fits = "x" * (MAX_BYTES - 2)

    assert len(encode(fits, "it")) == MAX_BYTES
    assert refusal(fits + "x") == (
        f"the result of copy takes {MAX_BYTES + 1} bytes of JSON, more than the {MAX_BYTES} allowed"
    )


def test_what_is_escaped_counts_as_it_is_stored():
    assert "takes" in refusal("\0" * (MAX_BYTES // 5))
    assert "takes" in refusal("é" * (MAX_BYTES // 5))


@pytest.mark.parametrize("value", ["x" * 2 * MAX_BYTES, ["x"] * MAX_BYTES, {str(n): n for n in range(10**5)}])
def test_two_megabytes_are_refused(value):
    assert "more than the 1048576 allowed" in refusal(value)


def test_a_caller_may_set_another_limit():
    assert encode("four", "it", max_bytes=6) == '"four"'
    assert "takes 6 bytes" in refusal("four", max_bytes=5)


def test_what_is_stored_is_compact_json_that_others_read():
    assert encode({"a": [1, None]}, "it") == '{"a":[1,null]}'
    assert json.loads(encode("é\n", "it")) == "é\n"


# -- plain texts


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"),
        ("", ""),
        ("日本 😀", "日本 😀"),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("caf\udce9", "caf\\udce9"),
    ],
)
def test_a_text_is_made_storable(text, stored):
    assert storable(text) == stored


@given(st.text(st.characters(codec=None)))
def test_a_storable_text_is_one_that_every_store_takes(text):
    stored = storable(text)

    assert "\0" not in stored
    assert stored.encode("utf-8").decode("utf-8") == stored
    assert storable(stored) == stored


def test_an_error_of_the_payload_is_a_value_error_of_the_task_that_made_it():
    assert issubclass(payload.PayloadError, ValueError)
