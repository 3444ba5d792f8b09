"""README and docs as a reader meets them: what they say is done, and what they show is compared."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.programs import loaded

# A page is typed in one go; each command of it has a limit of its own.
pytestmark = pytest.mark.timeout(600)

sessions = loaded("sessions")
CONSOLES = [
    page for page in sessions.PAGES if any(block.kind == "console" for block in sessions.blocks(page))
]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[ModuleType]:
    shell = sessions.Shell(tmp_path)
    yield shell
    shell.close()


@pytest.mark.parametrize("page", CONSOLES, ids=lambda page: page.name)
def test_what_a_page_shows_is_what_is_printed(page, shell):
    same = sessions.compare(page)

    for step, printed in sessions.play(page, shell):
        if not same(printed, step.shown):
            told = f"$ {step.command}\n{printed}\nis printed, but {page.name} shows\n{step.shown}"
            pytest.fail(f"{told}\n(`python docs/sessions.py {page.name}` renews the page)", pytrace=False)


def test_the_example_of_the_readme_shows_an_undo_newest_first():
    (step,) = [step for block in sessions.blocks(sessions.README) for step in steps(block, "ebbtide cancel")]

    begun = re.findall(r"(chapter-\d) begun\n", step.shown)
    assert len(begun) > 1
    assert re.findall(r"(chapter-\d) undone\n", step.shown) == begun[::-1]
    assert step.shown.endswith("accepted  cancelled, everything undone\n")


def test_the_example_of_the_readme_is_below_25_lines():
    (code,) = [block for block in sessions.blocks(sessions.README) if block.kind == "python"]
    commands = [step for block in sessions.blocks(sessions.README) for step in steps(block, "")]

    assert code.text.count("\n") + len(commands) < 25


@pytest.mark.parametrize("page", sessions.PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_is_of_a_kind_that_is_run_or_generated(page):
    found = sessions.blocks(page)
    fences = re.findall(r"^\s*```", page.read_text(encoding="utf-8"), re.MULTILINE)

    assert {block.kind for block in found} <= sessions.KINDS
    assert [block.text for block in found if block.kind in ("python", "ini") and block.file is None] == []
    assert len(fences) == 2 * len(found)


def steps(block, beginning):
    return [step for step in block.steps if block.kind == "console" and step.command.startswith(beginning)]


@pytest.mark.parametrize(
    ("printed", "shown", "is_same"),
    [
        ("09:47:04.857  posted\n", "10:00:00.000 posted\n", True),
        ("copy  26 ms  returned\n", "copy   1.20 s  returned\n", True),
        ("posted\nclaimed\ncompleted\n", "posted\n...\ncompleted\n", True),
        ("posted\nclaimed\nfailed\n", "posted\n...\ncompleted\n", False),
        ("2 undone\n", "3 undone\n", False),
        ("job 7cd1444d completed\n", "job 00000000 completed\n", True),
        (
            "09:47:04.857  cancel delivered\n09:47:04.858  cancel forwarded\n",
            "09:47:04.857  cancel forwarded\n09:47:04.858  cancel delivered\n",
            True,
        ),
        ("09:47:04.857  cancel delivered\n", "09:47:04.857  cancel forwarded\n", False),
        ("accepted  cancelled, everything undone\n", "accepted  being undone\n", True),
        ("accepted  being undone\n", "accepted  cancelled, everything undone\n", False),
        (
            "09:47:04.857  waits for a conductor: none is running; `ebbtide conductor` runs one\ndone\n",
            "done\n",
            True,
        ),
        ("waits for a conductor: none is running\n", "waits for a conductor: all are busy\n", False),
    ],
)
def test_only_what_differs_from_run_to_run_is_of_no_account(printed, shown, is_same):
    assert sessions.same(printed, shown) is is_same


def test_an_example_whose_undo_is_in_the_wrong_order_is_not_the_same():
    lines = "10:00:00.000  chapter-{} {}\n"
    right = [(1, "begun"), (2, "begun"), (2, "is being undone"), (2, "undone"), (1, "is being undone")]
    shown = "".join(lines.format(*each) for each in [*right, (1, "undone")])
    wrong = "".join(
        lines.format(3 - each[0], each[1]) if "undone" in each[1] else lines.format(*each)
        for each in [*right, (1, "undone")]
    )

    assert sessions.same_example(shown, shown)
    assert not sessions.same_example(wrong, shown)
