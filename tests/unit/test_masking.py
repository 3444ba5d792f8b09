"""What a page shows of parameters and results is without secrets."""

import pytest

from ebbtide.api.page.masking import LONGEST, MASK, masked, shown_json


@pytest.mark.parametrize("value", ["hunter2", ["hunter2"], {"value": "hunter2"}, {"of": [{"it": "hunter2"}]}])
def test_whatever_texts_are_under_the_name_of_a_secret_are_hidden(value):
    shown = masked({"credentials": value, "user": "ann"}, None)

    assert "hunter2" not in shown["credentials"]
    assert MASK in shown["credentials"]
    assert shown["user"] == "ann"


def test_a_name_that_tells_of_a_secret_hides_nothing_beside_it():
    shown = masked({"login": {"password": "hunter2", "user": "ann"}}, None)

    assert "hunter2" not in shown["login"]
    assert "ann" in shown["login"]


def test_a_password_in_a_url_is_hidden_where_a_result_is_cut():
    before = "." * (LONGEST - len('"https://ann:hunter2'))

    text, whole = shown_json(f"{before}https://ann:hunter2@example.org/")

    assert not whole
    assert "hunter" not in text
