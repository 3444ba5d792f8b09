"""What a flow's docstring says of its parameters is shown beside them."""

from taskflow.patterns import linear_flow

from ebbtide.flows import FlowDefinition


def _described(factory):
    return {
        name: about.get("description")
        for name, about in FlowDefinition.of("told", factory).schema()["properties"].items()
    }


def test_entries_of_the_args_section_are_told_on_one_line():
    def factory(source: str, depth: int = 1, quiet: bool = False):
        """Do it.

        Args:
            source: where to begin; a line
                that goes on: with a colon.
            depth (int): how far down.

        Raises:
            ValueError: never.
        """
        return linear_flow.Flow("told")

    assert _described(factory) == {
        "source": "where to begin; a line that goes on: with a colon.",
        "depth": "how far down.",
        "quiet": None,
    }


def test_marks_of_code_in_a_docstring_are_not_shown():
    def factory(folder: str):
        """Make ``current`` anew.

        Args:
            folder: where ``current`` is,
                a link into ``folder/versions``.
        """
        return linear_flow.Flow("told")

    assert _described(factory) == {"folder": "where current is, a link into folder/versions."}
    assert FlowDefinition.of("told", factory).doc == "Make current anew."


def test_a_docstring_without_the_section_tells_nothing():
    def factory(source: str):
        """Do it: with care."""
        return linear_flow.Flow("told")

    def silent(source: str):
        return linear_flow.Flow("told")

    assert _described(factory) == _described(silent) == {"source": None}
