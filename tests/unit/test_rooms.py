"""The shape of the repository: rooms, the direction of imports, names and sizes of modules."""

import ast
import os
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRONT = ROOT / "ebbtide"
# The order of imports. The bottom is `ebbtide` itself, whose modules stand in an order of their own.
BOTTOM = (
    "interrupts",
    "trees",
    "wording",
    "errors",
    "faults",
    "places",
    "optionkinds",
    "configfile",
    "limitoptions",
    "policyoptions",
    "serveroptions",
    "apioptions",
    "config",
)
ROOMS = ("tasks", "flows", "jobs", "conductor", "api", "cli")
# A package of the front door's, which is a folder there and no link.
INSIDE = ("testing",)
ORDER = (*BOTTOM, *ROOMS[:-2], *INSIDE, *ROOMS[-2:])
SAYS_NOTHING = {"utils", "util", "common", "misc", "constants", "helpers", "base_utils", "lib"}


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


PRODUCT = [
    *sorted(FRONT.glob("*.py")),
    *(module for package in INSIDE for module in modules(FRONT / package)),
    *(module for room in ROOMS for module in modules(ROOT / room)),
]
EVERYTHING = [
    *PRODUCT,
    *(module for folder in ("tests", "examples", "benchmarks", "docs") for module in modules(ROOT / folder)),
]


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def below(path: Path) -> Path:
    """Where the module stands in `ebbtide`, as it is imported."""
    return path.relative_to(FRONT if path.is_relative_to(FRONT) else ROOT)


def imports(path: Path) -> Iterator[str]:
    """Every absolute name that the module imports, at any depth; relative ones resolved."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    inside = below(path)
    package = ["ebbtide", *inside.parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def height(name: str) -> int | None:
    """How far up the order a module or a name in it stands; None for what is not Ebbtide's."""
    parts = name.split(".")
    if parts[0] != "ebbtide":
        return None
    second = parts[1] if len(parts) > 1 else ""
    order = ("__version__", *ORDER)
    # A name of the front door may come from any room, so that only the highest may ask for it there.
    return order.index(second if second in order else ROOMS[-1])


def own_name(path: Path) -> str:
    return ".".join(["ebbtide", *below(path).with_suffix("").parts])


def setup() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.mark.parametrize("path", PRODUCT, ids=label)
def test_imports_run_one_way(path):
    own = height(own_name(path))
    assert own is not None

    upwards = [name for name in imports(path) if (height(name) or 0) > own]

    assert upwards == []


@pytest.mark.parametrize("path", EVERYTHING, ids=label)
def test_no_room_is_imported_by_its_bare_name(path):
    assert [name for name in imports(path) if name.split(".")[0] in ROOMS] == []


def test_engines_are_touched_where_ours_is_and_in_what_runs_its_tasks():
    untyped = ("taskflow.engines", "taskflow.persistence.storage")

    touching = [label(path) for path in PRODUCT if any(name.startswith(untyped) for name in imports(path))]

    assert touching == [
        "flows/order.py",  # compiles a flow, and runs none
        "conductor/engine.py",
        "conductor/executor.py",
        "conductor/selector.py",
        "conductor/turning.py",
    ]


def test_the_package_list_the_folders_and_the_links_agree():
    listed = set(setup()["options"]["packages"].split())
    mapped = dict(line.split(" = ") for line in setup()["options"]["package_dir"].strip().splitlines())
    tops = [*(FRONT / package for package in INSIDE), *(ROOT / room for room in ROOMS)]
    folders = {"ebbtide"} | {
        ".".join(["ebbtide", *below(init.parent).parts]) for top in tops for init in top.rglob("__init__.py")
    }
    links = {entry.name: os.readlink(entry) for entry in FRONT.iterdir() if entry.is_symlink()}

    assert listed == folders
    assert mapped == {"ebbtide": "ebbtide"} | {f"ebbtide.{room}": room for room in ROOMS}
    assert links == {room: f"../{room}" for room in ROOMS}


def test_every_folder_with_modules_is_a_package():
    lone = {label(path.parent) for path in PRODUCT if not (path.parent / "__init__.py").exists()}

    assert lone == set()


def test_ruff_skips_every_link():
    text = (ROOT / "pyproject.toml").read_text()

    assert text.count("exclude = [") == 2
    for room in ROOMS:
        assert text.count(f'"ebbtide/{room}"') == 2
        assert f"\n{room}.msg = " in text


@pytest.mark.parametrize("path", PRODUCT, ids=label)
def test_a_module_has_a_name_that_says_something(path):
    assert not SAYS_NOTHING & {path.stem.strip("_"), path.parent.name}
    assert path.stem == path.stem.lower()


@pytest.mark.parametrize("path", PRODUCT, ids=label)
def test_modules_and_functions_stay_short(path):
    text = path.read_text(encoding="utf-8")
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 50]

    assert long == []
    assert len(text.splitlines()) <= 400


@pytest.mark.parametrize("path", PRODUCT, ids=label)
def test_a_module_says_what_it_is(path):
    if path.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
