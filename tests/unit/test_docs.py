"""README and docs against the code: generated parts are fresh, and whatever is named exists."""

import ast
import importlib
import re
from itertools import pairwise
from pathlib import Path

import click
import pytest

from ebbtide.cli import command
from ebbtide.config import OPTIONS, variable
from ebbtide.faults import FAULTS_VARIABLE
from ebbtide.jobs import picture
from ebbtide.jobs.states import EDGES, PHASES, JobState
from tests.programs import loaded

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
ROOMS = ("tasks", "flows", "jobs", "conductor", "cli")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


generate = loaded("generate")
BLOCKS = generate.blocks()
# These grow with each test that is written; what they say is checked below.
CITATIONS = "citations"


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))


def quoted(page: Path) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# What is generated


@every_page
def test_what_is_generated_is_up_to_date(page):
    text = page.read_text(encoding="utf-8")
    fresh = {name: block for name, block in BLOCKS.items() if name != CITATIONS}

    assert picture.fill(text, fresh) == text, "run: python docs/generate.py"


@every_page
def test_every_generated_block_is_known_and_ends(page):
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"<!-- generated: (.*) -->", text)

    assert set(names) <= set(BLOCKS)
    assert text.count("<!-- end -->") == len(names)


def test_every_block_is_in_some_page():
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)

    assert [name for name in BLOCKS if f"<!-- generated: {name} -->" not in texts] == []


def test_a_block_is_renewed_and_nothing_else():
    text = "a\n<!-- generated: edges -->\nold\n<!-- end -->\n<!-- generated: other -->\nkept\n<!-- end -->\n"

    assert picture.fill(text, {"edges": "new"}) == text.replace("old", "new")


def test_the_picture_shows_every_edge_and_every_state():
    shown = picture.picture()

    for edge in EDGES:
        assert re.search(rf"--> {edge.target} : .*\b{edge.name}\b", shown)
    assert {state for state in JobState if f" {state} " in f"{shown} "} == set(JobState)


def test_the_picture_program_renews_the_files_it_is_given(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- generated: states -->\n<!-- end -->\n")

    picture.main([str(page)])

    assert picture.picture() in page.read_text()


def test_every_option_has_its_section():
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")

    for option in OPTIONS:
        assert f"### {option.name}\n" in text
        assert f"`{variable(option.name)}`" in text


def test_every_room_has_its_row_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = [place.name for place in (ROOT / "ebbtide").iterdir() if place.is_symlink()]

    assert len(rooms) > 5
    assert [room for room in rooms if f"| `{room}/` | `ebbtide.{room}` |" not in text] == []


# What is named


@every_page
def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


@every_page
def test_every_command_that_is_named_exists(page):
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"\bebbtide ((?:--?[\w-]+ )*[a-z][a-z -]*)", "\n".join(commands(text))):
        words = [word for word in line.split() if not word.startswith("-")]
        assert words[0] in command.commands, line
        verb = command.commands[words[0]]
        if isinstance(verb, click.Group):
            assert words[1] in verb.commands, line


def commands(text: str) -> list[str]:
    """Command lines: those in backticks, those of consoles, and those that are indented."""
    consoles = re.findall(r"(?m)^\$ (.*)$", text)
    indented = re.findall(r"(?m)^    (.*)$", text)
    return [each for each in [*re.findall(r"`([^`\n]+)`", text), *consoles, *indented] if "ebbtide" in each]


@every_page
def test_every_option_that_is_named_exists(page):
    known = {name for verb in verbs(command) for option in verb.params for name in option.opts}
    known |= {"--help", "--check"}

    named = {
        name
        for text in commands(page.read_text(encoding="utf-8"))
        for name in re.findall(r" (--[\w-]+)", text)
    }
    named |= {text.split()[0] for text in quoted(page) if text.startswith("--")}

    assert named <= known


def verbs(group: click.Group) -> list[click.Command]:
    found: list[click.Command] = [group]
    for verb in group.commands.values():
        found += verbs(verb) if isinstance(verb, click.Group) else [verb]
    return found


@every_page
def test_every_variable_that_is_named_exists(page):
    known = {"EBBTIDE_CONFIG", FAULTS_VARIABLE, *(variable(option.name) for option in OPTIONS)}
    for tests in (ROOT / "tests").rglob("*.py"):
        known |= set(re.findall(r"\bEBBTIDE_TEST_[A-Z_]*[A-Z]", tests.read_text(encoding="utf-8")))

    named = set(re.findall(r"(?<![\w_])EBBTIDE_[A-Z_]*[A-Z]", prose(page)))

    assert named <= known


@every_page
def test_every_file_that_is_named_exists(page):
    named = [text for text in quoted(page) if re.fullmatch(r"[\w./-]+/(?:[\w.-]+\.\w+)?", text)]
    own = [
        text
        for text in named
        if text.split("/")[0] in (*ROOMS, "ebbtide", "tests", "docs", "etc", "benchmarks")
    ]

    assert [text for text in own if not (ROOT / text).exists()] == []


@every_page
def test_every_name_of_ebbtide_exists(page):
    for name in re.findall(r"\bebbtide(?:\.[a-z_]+)+\.[A-Z]\w+", prose(page)):
        module, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(module), last), name


@every_page
def test_only_the_words_of_the_product_are_used(page):
    # A verb of the command line may be called as everybody calls it.
    text = re.sub(r"`[^`]*`|^### ebbtide .*$", "", prose(page), flags=re.MULTILINE).lower()

    assert re.findall(r"\b(?:abort|revok|terminat|abandon|cancele|canceli)\w*", text) == []


def test_every_screenshot_is_shown_on_a_page_is_of_one_width_and_small():
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for image in (DOCS / "images").iterdir():
        content = image.read_bytes()
        assert f"images/{image.name})" in shown, image.name
        assert int.from_bytes(content[16:20], "big") == 1280, image.name
        assert len(content) < 200_000, image.name


# What is claimed


def test_every_edge_of_the_page_is_applied_somewhere():
    applied = {
        node.value
        for room in ("jobs", "conductor")
        for path in (ROOT / room).rglob("*.py")
        if path.name not in ("states.py", "picture.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    # `settle` in states.py names those by which a run ends.
    applied |= {"completed", "failed", "cancelled", "parked"}

    assert {edge.name for edge in EDGES} - applied == set()


def test_the_phases_that_the_page_explains_are_those_there_are():
    text = (DOCS / "states.md").read_text(encoding="utf-8")

    assert [phase for phase in PHASES if f"`{phase}`" not in text] == []


def citations() -> dict[int, list[str]]:
    """The test files of each promise, as the page on trust lists them."""
    text = (DOCS / "trust.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| P(\d+) \| (.*) \|$", text)
    return {int(number): re.findall(r"`([^`]+)`", files) for number, files in rows}


def test_the_page_on_trust_states_every_promise_and_lists_its_tests():
    text = (DOCS / "trust.md").read_text(encoding="utf-8")

    assert re.findall(r"(?m)^- \*\*P(\d+)\*\* ", text) == [str(number) for number in range(1, 15)]
    assert list(citations()) == list(range(1, 15))
    assert [promise for promise, files in citations().items() if not files] == []


@pytest.mark.parametrize("promise", citations())
def test_a_promise_is_cited_by_the_tests_that_are_listed_for_it(promise):
    tests = [ROOT / "tests" / file for file in citations()[promise]]

    assert [path.name for path in tests if promise not in generate.cited(path.read_text())] == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("P5 and P14", {5, 14}), ("P1, P2.", {1, 2}), ("P5 to P7", {5, 6, 7}), ("HTTP2 P123 p4", set())],
)
def test_a_citation_is_a_number_of_its_own(text, numbers):
    assert generate.cited(text) == numbers


def test_the_rooms_are_named_in_their_order():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    places = [text.index(f"| `{room}/` |") for room in ("ebbtide", *ROOMS)]

    assert all(first < second for first, second in pairwise(places))
